"""Services with one bug each, in the order in which a review looks for them."""

import math

from fastapi import Response

from tests import service_mistakes as does
from tests.broken_services import Bug, error_body, upright
from tests.service_mistakes import each, one, without

IN_MASK = ("mask_not_in_box",)
IN_FILE = ("same_pixels_differ",)
IN_BOX = ("box_unordered", "mask_not_in_box")
HUES = ("colours_untold",)

TRANSPORT = [
    Bug("no answer", "hangs", before=does.never),
    Bug("no end", "hangs", send=does.endless),
    Bug("half an answer", "connection_broken", send=does.broken_off),
    Bug("an exception", "good_upload_fails", answer=does.fails),
    Bug("a key wanted", "good_upload_refused", answer=does.refuses(401, "unauthorized")),
    Bug("a page in place of a result", "html_page", send=does.page),
    Bug(
        "Python in place of JSON",
        "json_broken",
        send=lambda status, body: Response(str(body), status, media_type="application/json"),
    ),
    Bug("NaN as score", "json_nan", detection=one(score=math.nan)),
    Bug("NaN in a box", "json_nan", detection=one(box=(math.nan, 72.0, 568.0, 168.0)), also=IN_BOX),
    Bug("no type of content", "content_type_missing", send=does.unlabelled),
    Bug("JSON called text", "content_type_missing", send=does.text),
    Bug("an unknown list", "shape_unknown", answer=lambda body, _: {"found": body["detections"]}),
    Bug("a score short", "lists_disagree", answer=does.columns),
]

GEOMETRY = [
    Bug("a box short", "box_missing", detection=one(box=None)),
    Bug(
        "all boxes as before",
        "answer_is_canned",
        answer=does.first_again,
        also=("box_outside", "mask_size_wrong"),
    ),
    Bug("fractions", "box_is_normalised", box=lambda b, w, h: does.to_size(b, 1, w, h)),
    Bug(
        "fractions with sizes",
        "box_is_normalised",
        box=lambda b, w, h: does.with_size(does.to_size(b, 1, w, h)),
    ),
    Bug("COCO's boxes", "box_is_xywh", box=does.with_size),
    Bug("YOLO's boxes", "box_is_cxcywh", box=does.with_center),
    Bug("rows first", "box_is_yxyx", box=lambda b, _w, _h: (b[1], b[0], b[3], b[2])),
    Bug(
        "corners named as sizes",
        "box_is_xyxy",
        box=lambda b, _w, _h: dict(zip(("x", "y", "width", "height"), b, strict=True)),
    ),
    Bug("stretched", "box_of_network_size", box=lambda b, w, h: does.to_size(b, 640, w, h)),
    Bug("letterboxed", "box_of_network_size", box=lambda b, w, h: does.letterboxed(b, 416, w, h)),
    Bug("padded", "box_with_padding", box=lambda b, w, h: does.letterboxed(b, max(w, h), w, h)),
    Bug(
        "EXIF not read",
        "exif_ignored",
        upright=lambda image: image.convert("RGB"),
        also=("box_outside", "mask_size_wrong", "image_size_wrong"),
    ),
    Bug("corners swapped", "box_unordered", detection=does.one_swapped, also=IN_MASK),
    Bug("elsewhere", "box_outside", detection=does.one_outside, also=IN_MASK),
]

FIELDS = [
    Bug("no score", "score_missing", detection=without("score")),
    Bug("a score as text", "score_missing", detection=one(score="0.87")),
    Bug("per cent", "score_out_of_range", detection=each(lambda d: {"score": 100 * d["score"]})),
    Bug("no class", "class_missing", detection=without("class_id", "class_name"), also=HUES),
    Bug("a class without a name", "class_name_missing", detection=one(class_name="")),
    Bug("a name of two", "class_name_shared", detection=one(class_name="brass nut")),
    Bug("a class of all", "class_id_renamed", detection=each(lambda _: {"class_id": 0})),
    Bug("rows for columns", "mask_size_wrong", detection=does.lying_mask),
    Bug("the network's mask", "mask_size_wrong", detection=does.small_mask),
    Bug("a mask elsewhere", "mask_not_in_box", detection=does.moved_mask),
    Bug("an empty mask", "mask_not_in_box", detection=does.empty_mask),
    Bug(
        "height first",
        "image_size_wrong",
        answer=lambda body, turn: {**body, "width": turn.size[1], "height": turn.size[0]},
    ),
    Bug("BGR", "colours_swapped", upright=does.bgr),
    Bug("flicker", "not_deterministic", detection=does.flicker, also=IN_FILE),
    Bug("WebP as else", "same_pixels_differ", detection=does.other_in_webp),
    Bug("no greys", "odd_picture_fails", opened=does.only("L", does.fails)),
    Bug(
        "one pixel",
        "odd_picture_fails",
        upright=lambda image: upright(image) if image.width > 1 else does.fails(),
    ),
    Bug("no CMYK", "odd_picture_refused", opened=does.only("CMYK", does.refuses(400, "bad_mode"))),
]

ACCOUNT = [
    Bug("no trace", "trace_id_missing", answer=without("trace_id")),
    Bug("one trace", "trace_id_repeated", answer=each(lambda _: {"trace_id": "0" * 31 + "1"})),
    Bug(
        "no model",
        "model_unnamed",
        answer=without("models"),
        also=("weights_hash_missing",),
    ),
    Bug(
        "no weights",
        "weights_hash_missing",
        answer=each(lambda _: {"models": {"detector": {"name": "v2"}}}),
    ),
    Bug("no times", "timing_missing", answer=without("inference_ms", "stage_ms", "latency_ms")),
    Bug("a clock set back", "timing_negative", answer=each(lambda _: {"latency_ms": -1.0})),
    Bug("microseconds", "timing_too_long", answer=each(lambda _: {"latency_ms": 1e6})),
    Bug("a key more", "contract_broken", answer=each(lambda _: {"more": 1})),
    Bug("a key short", "contract_broken", answer=without("batch_size")),
]

REFUSALS = [
    Bug("their mistake is ours", "bad_upload_fails", opened=does.unexpected),
    Bug("an empty result", "bad_upload_accepted", opened=does.nothing_seen),
    Bug("half a picture", "bad_upload_accepted", opened=does.half_seen),
    Bug("no number", "bad_request_fails", nonsense=500),
    Bug("any path", "wrong_path_accepted", anywhere=200),
    Bug("any method", "wrong_method_accepted", get=200),
    Bug("any number", "bad_parameter_ignored", nonsense=200),
    Bug("a traceback", "error_tells_internals", error=does.traced),
    Bug("a page of an error", "html_page", send=does.page_of_error),
    Bug("words", "error_not_json", send=does.words),
    Bug("no code", "error_without_code", error=lambda _s, _c, trace: {"trace_id": trace}),
    Bug(
        "an error without a trace",
        "error_without_trace_id",
        error=lambda status, code, _: {**error_body(status, code, ""), "trace_id": None},
    ),
    Bug("poisoned", "bad_upload_poisons", answer=does.late),
    Bug("no health", "health_missing", healthy=404),
]

BUGS = [*TRANSPORT, *GEOMETRY, *FIELDS, *ACCOUNT, *REFUSALS]
