"""The course of a review: good pictures first, then bad uploads, then a good one again."""

from collections.abc import Iterable, Sequence

from PIL import Image

from scripts.review import pictures
from scripts.review.answers import Answer, Review
from scripts.review.client import CutShort, Exchange
from scripts.review.compare import (
    check_class_names,
    check_colours,
    check_exif,
    check_format,
    check_trace_ids,
    difference,
)
from scripts.review.fields import (
    check_box_there,
    check_boxes,
    check_class,
    check_contract,
    check_model,
    check_scores,
    check_size_told,
    check_timings,
)
from scripts.review.findings import Findings, Level
from scripts.review.masks import check_masks
from scripts.review.pictures import Picture, Shape
from scripts.review.refusals import check_health, check_protocol, check_upload
from scripts.review.uploads import bad_uploads, mislabelled

REPEATS = 2


def run_course(review: Review, image: Image.Image, shapes: Sequence[Shape]) -> None:
    """Everything was asked that makes sense, and what was found is in `review.findings`.

    `shapes` are what is known to be in the image. Raises ServiceUnreachable.
    """
    picture = pictures.first(image)
    try:
        first = review.show(picture)
        if first:
            _good(review, image, first, shapes)
            _bad(review, image, first)
            check_health(review)
    except CutShort as cut:
        review.findings.report("cut_short", Exchange(picture.request), str(cut))


def _good(review: Review, image: Image.Image, first: Answer, shapes: Sequence[Shape]) -> None:
    """Good pictures: what the boxes mean comes first, as all else is read by it."""
    findings = review.findings
    if not first.found:
        findings.report("nothing_found", first.exchange, "give a picture of your own with --image")
    check_box_there(findings, first)
    moved = _shown(review, pictures.moved(image))
    reading = check_format(findings, first, moved, shapes)
    turned = _turned(review, image)
    check_exif(findings, first, turned, reading)
    common = [first, *moved, *turned.values()]
    check_each(findings, common, reading)
    check_class_names(findings, common)
    if shapes:
        check_colours(findings, first, review.show(pictures.swapped(image)), shapes, reading)
    same = _again(review, image, first)
    odd = _shown(review, pictures.odd(image), odd=True)
    check_each(findings, odd, reading)
    check_account(findings, [*common, *same, *odd])


def _shown(review: Review, some: Iterable[Picture], odd: bool = False) -> list[Answer]:
    answers = (review.show(picture, odd) for picture in some)
    return [answer for answer in answers if answer]


def _turned(review: Review, image: Image.Image) -> dict[int, Answer]:
    """Answers to the picture that is stored turned, by EXIF orientation."""
    by_turn = pictures.exif_turned(image)
    answers = ((turn, review.show(picture, odd=True)) for turn, picture in by_turn.items())
    return {turn: answer for turn, answer in answers if answer}


def check_each(findings: Findings, answers: Sequence[Answer], reading: str) -> None:
    """What was found in each picture; one question after the other, as one mistake has many."""
    for answer in answers:
        check_box_there(findings, answer)
        check_boxes(findings, answer, reading)
    for answer in answers:
        check_scores(findings, answer)
    for answer in answers:
        check_class(findings, answer)
    for answer in answers:
        check_masks(findings, answer, reading)
    for answer in answers:
        check_size_told(findings, answer)


def _again(review: Review, image: Image.Image, first: Answer) -> list[Answer]:
    """The same request again, then the same pixels in other files."""
    repeated = _shown(review, [first.picture] * REPEATS)
    same = _shown(review, pictures.same_pixels(image), odd=True)
    for code, answers in (("not_deterministic", repeated), ("same_pixels_differ", same)):
        for answer in answers:
            if differs := difference(first, answer):
                review.findings.report(code, answer.exchange, differs)
    return [*repeated, *same]


def check_account(findings: Findings, answers: Sequence[Answer]) -> None:
    """What the answers say of themselves."""
    check_trace_ids(findings, [answer.exchange for answer in answers])
    for answer in answers:
        check_model(findings, answer)
    for answer in answers:
        check_timings(findings, answer)
    # What is named already would only be told a second time.
    if findings.ours and not findings.of(Level.BUG):
        for answer in answers:
            check_contract(findings, answer)


def _bad(review: Review, image: Image.Image, first: Answer) -> None:
    """Bad uploads and requests; after them a good picture gets what it got at first."""
    for upload in (*bad_uploads(image), mislabelled(image)):
        if not (review.client.target.raw and upload.request.part and upload.request.part.field):
            check_upload(review, upload)
    check_protocol(review, first.picture.request)
    again = review.show(first.picture)
    if (
        again
        and "not_deterministic" not in review.findings
        and (differs := difference(first, again))
    ):
        review.findings.report("bad_upload_poisons", again.exchange, differs)
