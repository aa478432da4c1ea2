"""Safety filters: what is withheld, by which rule, and that nothing leaves where one fails."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InferenceError
from contracts.messages import FrameFailure, FrameResult, parse_message
from pipeline.classify import Label
from pipeline.filters import Sight, Verdict
from pipeline.filters.whole_image import WholeImage
from pipeline.inference import infer
from pipeline.look import look
from pipeline.view import View
from tests.filtered import (
    CAR,
    NAMES,
    PERSON,
    Found,
    answer_to,
    blocks_bright,
    classes_of,
    is_blurred,
    labels_of,
    pixels_of,
    reading,
    result_to,
    rule,
    street,
    with_filters,
)
from tests.frames import BrightnessClassifier, frame
from tests.inference_line import InferenceLine, outcomes


def test_without_filters_all_is_there() -> None:
    result = result_to(with_filters(text=reading("person", "plate")))
    assert classes_of(result) == ["person", "car", "plate"]
    assert labels_of(result) == {"person": "bright", "car": "dark"}
    # The plate is too low to be read.
    assert [one.detection_index for one in result.texts] == [0]
    assert (result.filtered, result.stage_ms.filter_ms) == ({}, 0.0)


def test_a_blocked_class_is_gone_with_its_label_and_texts_and_the_rest_keeps_its_own() -> None:
    result = result_to(
        with_filters(rule("block", name="people", classes=["person"]), text=reading("person"))
    )
    assert classes_of(result) == ["car", "plate"]
    assert labels_of(result) == {"car": "dark"}
    assert result.texts == ()
    assert result.filtered == {"people": 1}
    assert result.stage_ms.filter_ms > 0


def test_what_is_blocked_by_its_label_may_be_of_any_class() -> None:
    result = result_to(with_filters(rule("block", labels=["dark"])))
    # Nobody knows the plate's label, which is too low: it might be dark.
    assert classes_of(result) == ["person"]
    assert result.filtered == {"block": 2}


def test_of_class_and_label_both_must_hold() -> None:
    dark_people = rule("block", classes=["person"], labels=["dark"])
    assert result_to(with_filters(dark_people)).filtered == {}
    bright_people = rule("block", classes=["person"], labels=["bright"])
    assert classes_of(result_to(with_filters(bright_people))) == ["car", "plate"]


def test_what_is_less_sure_than_a_rule_wants_is_let_through() -> None:
    sure = rule("block", classes=["person", "car"], min_score=0.85)
    assert classes_of(result_to(with_filters(sure))) == ["car", "plate"]


def test_a_rule_without_min_score_lets_nothing_through_however_low_a_request_goes() -> None:
    found: list[Found] = [(PERSON, 1, 0.06), (CAR, 2, 0.07)]
    pipeline = with_filters(rule("block", classes=["person"]), found=found)
    assert classes_of(result_to(pipeline, View(min_score=0.05))) == ["car"]


@pytest.mark.parametrize(
    ("hide", "names", "labels", "masks", "texts"),
    [
        ("class", ["redacted", "car", "plate"], {"redacted": "bright", "car": "dark"}, 3, 1),
        ("label", ["person", "car", "plate"], {"car": "dark"}, 3, 1),
        ("text", ["person", "car", "plate"], {"person": "bright", "car": "dark"}, 3, 0),
        ("mask", ["person", "car", "plate"], {"person": "bright", "car": "dark"}, 2, 1),
    ],
)
def test_a_redacted_detection_stays_without_what_is_hidden(
    hide: str, names: list[str], labels: dict[str, str], masks: int, texts: int
) -> None:
    redact = rule("redact", classes=["person"], hide=[hide])
    result = result_to(with_filters(redact, masks=True, text=reading("person")))
    assert classes_of(result) == names
    assert labels_of(result) == labels
    assert sum(one.mask_rle is not None for one in result.detections) == masks
    assert len(result.texts) == texts
    assert result.filtered == {"redact": 1}
    assert result.detections[0].box == PERSON


def test_a_redacted_detection_hides_all_of_it_and_has_an_id_that_no_class_has() -> None:
    redact = rule("redact", classes=["person"])
    result = result_to(with_filters(redact, masks=True, text=reading("person")))
    redacted = result.detections[0]
    assert (redacted.class_name, redacted.class_id) == ("redacted", len(NAMES))
    assert (redacted.mask_rle, result.texts, labels_of(result)) == (None, (), {"car": "dark"})


@pytest.mark.parametrize("kind", ["block", "redact", "blur"])
def test_letters_on_a_withheld_object_are_not_read_in_the_whole_frame_either(kind: str) -> None:
    plain = result_to(with_filters(text=reading()))
    assert [one.detection_index for one in plain.texts] == [None]
    # The reader's one line goes from the person's spot to the plate's: it touches the plate.
    result = result_to(with_filters(rule(kind, classes=["plate"]), text=reading()))
    assert result.texts == ()


def test_only_the_pixels_of_a_blurred_object_change_and_the_frame_itself_does_not() -> None:
    image = street()
    answer = answer_to(with_filters(rule("blur", classes=["person"])), image)
    shown, before = pixels_of(answer), street()
    assert is_blurred(shown, PERSON)
    assert not is_blurred(before, PERSON)
    outside = np.ones(before.shape[:2], bool)
    outside[20:80, 10:110] = False
    assert np.array_equal(shown[outside], before[outside])
    assert np.array_equal(image, before)
    assert isinstance(answer.message, FrameResult)
    assert classes_of(answer.message) == ["person", "car", "plate"]
    assert answer.message.filtered == {"blur": 1}


def test_whoever_sent_a_picture_and_holds_it_has_it_blurred_too() -> None:
    image = street()
    answer = answer_to(with_filters(rule("blur", classes=["person"])), image, View())
    assert pixels_of(answer) is image
    assert is_blurred(image, PERSON)


def test_where_nothing_is_to_be_blurred_nothing_is_copied() -> None:
    image = street()
    block = rule("block", classes=["person"])
    assert pixels_of(answer_to(with_filters(block), image)) is image


@pytest.mark.parametrize(
    "view",
    [
        View(classes=frozenset({"car"})),
        View(min_score=0.95),
        View(max_detections=0),
        View(classify=False),
    ],
    ids=str,
)
@pytest.mark.parametrize("by", [{"classes": ["person"]}, {"labels": ["bright"]}], ids=str)
def test_what_nobody_asked_for_is_blurred_all_the_same(view: View, by: dict[str, Any]) -> None:
    image = street()
    answer = answer_to(with_filters(rule("blur", **by)), image, view)
    assert is_blurred(pixels_of(answer), PERSON)


def test_what_is_not_reported_as_too_low_can_be_blurred_and_is_not_by_itself() -> None:
    found: list[Found] = [(PERSON, 1, 0.3)]
    careful = rule("blur", classes=["person"], min_score=0.2)
    answer = answer_to(with_filters(careful, found=found))
    assert is_blurred(pixels_of(answer), PERSON)
    assert isinstance(answer.message, FrameResult)
    assert (answer.message.detections, answer.message.filtered) == ((), {"blur": 1})
    plain = answer_to(with_filters(rule("blur", classes=["person"]), found=found))
    assert not is_blurred(pixels_of(plain), PERSON)


def test_where_the_detector_did_not_look_a_picture_is_blurred() -> None:
    view = View(region=(0.25, 0.1, 0.75, 0.9))
    answer = answer_to(with_filters(rule("blur", classes=["person"]), found=[]), view=view)
    shown, before = pixels_of(answer), street()
    assert np.array_equal(shown[20:180, 100:300], before[20:180, 100:300])
    around: list[tuple[float, float, float, float]] = [
        (0, 0, 400, 20),
        (0, 180, 400, 200),
        (0, 20, 100, 180),
        (300, 20, 400, 180),
    ]
    assert all(is_blurred(shown, box) for box in around)


def test_labels_that_only_a_filter_wants_do_not_leave() -> None:
    pipeline = with_filters(rule("block", labels=["bright"], min_score=0.75))
    result = result_to(pipeline, View(classify=False))
    assert classes_of(result) == ["car", "plate"]
    assert (result.classifications, result.models.classifier) == ((), None)


def test_each_rule_goes_by_what_the_models_say_in_whatever_order_they_stand() -> None:
    rules = [
        rule("redact", name="hidden", classes=["person", "car"]),
        rule("block", name="gone", classes=["person"]),
        rule("blur", name="blurred", classes=["person"]),
    ]
    counts = [{"hidden": 2, "gone": 1, "blurred": 1}, {"blurred": 1, "gone": 1, "hidden": 1}]
    for ordered, filtered in zip((rules, rules[::-1]), counts, strict=True):
        answer = answer_to(with_filters(*ordered))
        assert isinstance(answer.message, FrameResult)
        assert classes_of(answer.message) == ["redacted", "plate"]
        assert is_blurred(pixels_of(answer), PERSON)
        assert answer.message.filtered == filtered


def test_a_rule_counts_what_no_rule_before_it_has_withheld() -> None:
    first = rule("block", name="first", classes=["person"])
    second = rule("block", name="second", classes=["person", "car"])
    third = rule("redact", name="third", classes=["person", "car"])
    result = result_to(with_filters(first, second, third))
    assert result.filtered == {"first": 1, "second": 1}


def test_of_a_blocked_frame_nothing_leaves_but_that_it_is() -> None:
    bright = np.full_like(street(), 200) + street() // 4
    people = rule("block", name="people", classes=["person"])
    pipeline = with_filters(people, blocks_bright(), text=reading("person"))
    answer = answer_to(pipeline, bright)
    assert isinstance(answer.message, FrameResult)
    assert parse_message(answer.message.model_dump_json()) == answer.message
    left = (answer.message.detections, answer.message.classifications, answer.message.texts)
    assert left == ((), (), ())
    assert answer.message.filtered == {"nsfw": 1}
    # That something was too small to be classified would tell of it.
    assert answer.message.degraded == ()
    assert is_blurred(pixels_of(answer), (0, 0, 400, 200))
    assert answer.message.models.filters == {"nsfw": BrightnessClassifier.identity}
    dark = answer_to(pipeline)
    assert isinstance(dark.message, FrameResult)
    assert dark.message.filtered == {"people": 1}


def test_a_flag_only_says_so() -> None:
    image = np.full_like(street(), 200) + street() // 4
    answer = answer_to(with_filters(blocks_bright("flag")), image)
    assert isinstance(answer.message, FrameResult)
    assert len(answer.message.detections) == 3
    assert answer.message.filtered == {"nsfw": 1}
    assert pixels_of(answer) is image


def test_a_frame_of_which_the_classifier_is_less_sure_is_let_through() -> None:
    image = np.full_like(street(), 200)
    assert infer_filtered(image, min_score=0.75) == {"nsfw": 1}
    assert infer_filtered(image, min_score=0.76) == {}


def infer_filtered(image: Any, **given: Any) -> dict[str, int]:
    message = answer_to(with_filters(blocks_bright(**given)), image).message
    assert isinstance(message, FrameResult)
    return message.filtered


class Failing:
    """A filter that raises on frame 1, and judges nothing else."""

    name, by_label, identity = "careful", False, None

    def judge(self, sights: Sequence[Sight]) -> list[Verdict]:
        if any(sight.frame.frame_index == 1 for sight in sights):
            raise RuntimeError("the device fell over")
        return [Verdict() for _ in sights]


def test_where_a_filter_fails_its_frame_fails_and_no_picture_leaves() -> None:
    frames = [frame(index, image_hwc=street()) for index in range(3)]
    answers = look(with_filters(Failing()), frames)
    assert [type(one.message).__name__ for one in answers] == [
        "FrameResult",
        "FrameFailure",
        "FrameResult",
    ]
    failed = answers[1]
    assert isinstance(failed.message, FrameFailure)
    assert failed.message.code == "filter_failed"
    assert failed.message.message == "filter careful: RuntimeError: the device fell over"
    assert failed.frame is None
    assert answers[0].frame is frames[0]


def test_a_whole_image_classifier_that_gives_no_score_can_not_judge() -> None:
    class Confused(BrightnessClassifier):
        def classify(self, crops: Any) -> list[Label]:
            return [Label(0, float("nan")) for _ in crops]

    nsfw = blocks_bright()
    assert isinstance(nsfw, WholeImage)
    nsfw._classifier = Confused()
    [failure] = infer(with_filters(nsfw), [frame(0, image_hwc=street())])
    assert isinstance(failure, FrameFailure)
    assert failure.code == "filter_failed"


def test_what_can_not_be_blurred_does_not_leave() -> None:
    image = street()
    image.flags.writeable = False
    answer = answer_to(with_filters(rule("blur", classes=["person"])), image, View())
    assert isinstance(answer.message, FrameFailure)
    assert answer.message.message == "filters: ValueError"
    assert answer.frame is None


def test_a_frame_that_failed_before_leaves_no_picture() -> None:
    pipeline = with_filters(rule("blur", classes=["person"]), found=[((40, 30, 20, 10), 1, 0.9)])
    answer = answer_to(pipeline)
    assert isinstance(answer.message, FrameFailure)
    assert answer.frame is None


def test_filters_that_always_fail_are_loaded_again_and_meanwhile_nothing_leaves() -> None:
    class Broken(Failing):
        def judge(self, sights: Sequence[Sight]) -> list[Verdict]:
            raise InferenceError(f"nsfw.onnx: it fell over at {len(sights)}")

    line = InferenceLine(with_filters(Broken()), 1, with_filters)
    source = line.add()
    source.put(*(frame(index, image_hwc=street()) for index in range(6)))
    source.end()
    with line.running():
        taken = line.take_all()
    assert outcomes(taken) == ["filter_failed"] * 3 + ["result"] * 3
    assert [one.frame is None for one in taken[:6]] == [True] * 3 + [False] * 3


def test_many_whole_frames_are_judged_in_turns() -> None:
    nsfw = blocks_bright()
    assert isinstance(nsfw, WholeImage)
    frames = [frame(index, image_hwc=np.full((40, 40, 3), 200, np.uint8)) for index in range(70)]
    results = infer(with_filters(nsfw, found=[]), frames)
    assert all(isinstance(one, FrameResult) and one.filtered for one in results)
    assert isinstance(nsfw._classifier, BrightnessClassifier)
    assert nsfw._classifier.batch_sizes == [64, 6]


boxes = st.tuples(
    st.integers(0, 350), st.integers(0, 150), st.integers(1, 50), st.integers(1, 50)
).map(lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3])))
found = st.lists(st.tuples(boxes, st.integers(1, 3), st.floats(0.0625, 1, width=32)), max_size=6)
some = st.lists(st.sampled_from(NAMES[1:]), min_size=1, max_size=2, unique=True)
rules = st.lists(
    st.one_of(
        st.fixed_dictionaries({"kind": st.sampled_from(["block", "redact", "blur"])}).flatmap(
            lambda kind: st.fixed_dictionaries({"classes": some}).map(lambda by: {**kind, **by})
        ),
        st.just({"kind": "block", "labels": ["bright"]}),
    ),
    max_size=4,
)
views = st.builds(
    View,
    classes=st.sampled_from([frozenset[str](), frozenset({"car"}), frozenset({"person", "car"})]),
    min_score=st.none() | st.floats(0.05, 1),
    max_detections=st.none() | st.integers(1, 6),
    classify=st.booleans(),
)


@given(found, rules, views)
def test_no_blocked_class_or_label_ever_leaves_and_nothing_that_is_to_be_blurred_is_sharp(
    objects: list[Found], given_rules: list[dict[str, Any]], view: View
) -> None:
    named = [rule(**{**one, "name": f"r{n}"}) for n, one in enumerate(given_rules)]
    pipeline = with_filters(*named, found=objects, text=reading())
    answer = answer_to(pipeline, street(), view)
    if isinstance(answer.message, FrameFailure):
        # All boxes in the first pixel are taken for normalised ones.
        assert answer.message.code == "contract_violation"
        return
    result = answer.message
    assert parse_message(result.model_dump_json()) == result

    def of(kind: str, by: str) -> set[str]:
        return {name for one in given_rules if one["kind"] == kind for name in one.get(by, ())}

    assert not of("block", "classes") & set(classes_of(result))
    assert not of("redact", "classes") & set(classes_of(result))
    assert not of("block", "labels") & {one.class_name for one in result.classifications}
    assert not of("redact", "classes") or "redacted" not in labels_of(result)
    assert set(result.filtered) <= {one.name for one in named}
    shown = pixels_of(answer)
    for box, class_id, score in objects:
        if NAMES[class_id] in of("blur", "classes") and score >= 0.5:
            assert is_blurred(shown, box) or overlaps_another(box, objects)
            assert not [one for one in result.texts if touches(one.quad, box)]


def overlaps_another(box: tuple[float, ...], objects: list[Found]) -> bool:
    """Then its cells are cut by those of the other one."""
    return (
        sum(touches(((other[0], other[1]), (other[2], other[3])), box) for other, *_ in objects) > 1
    )


def touches(corners: Sequence[tuple[float, float]], box: tuple[float, ...]) -> bool:
    xs, ys = zip(*corners, strict=True)
    x1, y1, x2, y2 = box
    return bool(min(xs) < x2 and x1 < max(xs) and min(ys) < y2 and y1 < max(ys))
