"""What a review can find: each rule with its stable code, in the order of the silent failures."""

import dataclasses
import enum
from typing import NamedTuple

from scripts.review.client import Exchange


class Level(enum.StrEnum):
    """How much a finding weighs."""

    BUG = "bug"
    WEAKNESS = "weakness"
    UNTOLD = "not tellable"


BUG, WEAKNESS, UNTOLD = Level


class Rule(NamedTuple):
    """What is wrong where the code is reported, and how much it weighs.

    `ours` is its weight in a service that answers in framewire's messages, and so promises more.
    """

    code: str
    level: Level
    ours: Level
    meaning: str


RULES = {
    rule.code: rule
    for rule in (
        Rule("hangs", BUG, BUG, "No whole answer came within the timeout."),
        Rule("connection_broken", BUG, BUG, "The connection ended without an answer."),
        Rule("good_upload_fails", BUG, BUG, "A good picture is answered with a 5xx status."),
        Rule("good_upload_refused", BUG, BUG, "A good picture is refused."),
        Rule("html_page", BUG, BUG, "The answer is an HTML page, which no program can read."),
        Rule("json_broken", BUG, BUG, "The answer to a good picture is not JSON."),
        Rule("json_nan", BUG, BUG, "The JSON has NaN or Infinity, which JSON can't hold."),
        Rule("content_type_missing", BUG, BUG, "JSON comes without saying that it is JSON."),
        Rule("shape_unknown", BUG, BUG, "There is no list of detections in the answer."),
        Rule("lists_disagree", BUG, BUG, "Boxes, scores and classes are lists of unequal length."),
        Rule("box_missing", BUG, BUG, "A detection has no box of four numbers."),
        Rule("answer_is_canned", BUG, BUG, "Different pictures get the very same boxes."),
        Rule("box_is_normalised", BUG, BUG, "Boxes are fractions of the picture, not pixels."),
        Rule("box_is_xywh", BUG, BUG, "Boxes are (x, y, width, height), not two corners."),
        Rule("box_is_cxcywh", BUG, BUG, "Boxes are (centre x, centre y, width, height)."),
        Rule("box_is_yxyx", BUG, BUG, "Boxes are (y1, x1, y2, x2): rows before columns."),
        Rule("box_is_xyxy", BUG, BUG, "Boxes named by width and height hold two corners."),
        Rule("box_of_network_size", BUG, BUG, "Boxes are in pixels of the network's input."),
        Rule("box_with_padding", BUG, BUG, "The letterbox's padding is still in the boxes."),
        Rule("format_untold", UNTOLD, UNTOLD, "What the numbers of a box mean shows nowhere."),
        Rule("exif_ignored", BUG, BUG, "A picture that is to be turned (EXIF) is not turned."),
        Rule("exif_untold", UNTOLD, UNTOLD, "Whether EXIF orientation counts shows nowhere."),
        Rule("box_unordered", BUG, BUG, "A box has x1 ≥ x2 or y1 ≥ y2."),
        Rule("box_outside", BUG, BUG, "A box reaches outside the picture."),
        Rule("score_missing", BUG, BUG, "A detection has no score that is a number."),
        Rule("score_out_of_range", BUG, BUG, "A score is not in [0, 1]."),
        Rule("class_missing", BUG, BUG, "A detection says nothing of its class."),
        Rule("class_name_missing", WEAKNESS, BUG, "A class has a number and no name."),
        Rule("class_name_shared", BUG, BUG, "Two class ids have one name."),
        Rule("class_id_renamed", BUG, BUG, "One class id has two names."),
        Rule("mask_size_wrong", BUG, BUG, "A mask is not of the picture's size."),
        Rule("mask_not_in_box", BUG, BUG, "A mask is empty, or lies elsewhere than its box."),
        Rule("mask_untold", UNTOLD, UNTOLD, "The mask's kind is not one that can be read here."),
        Rule("image_size_wrong", BUG, BUG, "The width and height told are not the picture's."),
        Rule("colours_swapped", BUG, BUG, "Red and blue are swapped on the way to the model."),
        Rule("colours_untold", UNTOLD, UNTOLD, "Whether red and blue are swapped shows nowhere."),
        Rule("not_deterministic", BUG, BUG, "The same request gets different results."),
        Rule("same_pixels_differ", BUG, BUG, "The same pixels in another file differ in results."),
        Rule("odd_picture_fails", BUG, BUG, "An unusual but good picture gets a 5xx status."),
        Rule("odd_picture_refused", WEAKNESS, WEAKNESS, "An unusual but good picture is refused."),
        Rule("trace_id_missing", WEAKNESS, BUG, "Nothing names the request for its log lines."),
        Rule("trace_id_repeated", BUG, BUG, "Two requests have the same trace id."),
        Rule("model_unnamed", WEAKNESS, BUG, "The answer doesn't say which model made it."),
        Rule(
            "weights_hash_missing", WEAKNESS, BUG, "The answer doesn't say which weights made it."
        ),
        Rule("timing_missing", WEAKNESS, BUG, "The answer doesn't say how long it took."),
        Rule("timing_negative", BUG, BUG, "A duration is negative."),
        Rule("timing_too_long", BUG, BUG, "A duration is longer than the whole request took."),
        Rule("contract_broken", BUG, BUG, "The answer is not an ImageResult of framewire."),
        Rule("bad_upload_fails", BUG, BUG, "A bad upload gets a 5xx status: it is the sender's."),
        Rule("bad_upload_accepted", BUG, BUG, "A bad upload gets a result."),
        Rule("bad_request_fails", BUG, BUG, "A wrong path, method or parameter gets a 5xx status."),
        Rule("wrong_path_accepted", WEAKNESS, BUG, "A path that isn't there gets a 2xx status."),
        Rule("wrong_method_accepted", WEAKNESS, BUG, "GET gets a 2xx status where POST is meant."),
        Rule("bad_parameter_ignored", WEAKNESS, BUG, "A parameter without sense is taken."),
        Rule("error_tells_internals", BUG, BUG, "An error shows a traceback."),
        Rule("error_not_json", WEAKNESS, BUG, "An error is not JSON."),
        Rule("error_without_code", WEAKNESS, BUG, "An error has no code to tell it by."),
        Rule("error_without_trace_id", WEAKNESS, BUG, "An error has no trace id."),
        Rule("bad_upload_poisons", BUG, BUG, "After bad uploads a good one gets another result."),
        Rule("health_missing", WEAKNESS, BUG, "There is no health endpoint."),
        Rule("nothing_found", UNTOLD, UNTOLD, "Nothing was detected, so little can be compared."),
        Rule("cut_short", UNTOLD, UNTOLD, "The review ended before all was asked."),
    )
}


@dataclasses.dataclass
class Finding:
    """The first request that shows what the rule says, and how many more do."""

    rule: Rule
    level: Level
    exchange: Exchange
    detail: str
    more: int = 0


class Findings:
    """What was found so far, in the order in which it was found; each code once."""

    def __init__(self) -> None:
        self.ours = False
        self._by_code: dict[str, Finding] = {}

    def report(self, code: str, exchange: Exchange, detail: str) -> None:
        """It is kept, or counted where the code was reported before."""
        if known := self._by_code.get(code):
            known.more += 1
            return
        rule = RULES[code]
        level = rule.ours if self.ours else rule.level
        # What a service says goes to a terminal.
        said = "".join(char if char.isprintable() else "�" for char in detail)
        self._by_code[code] = Finding(rule, level, exchange, f"{exchange.request.name}: {said}")

    def __contains__(self, code: str) -> bool:
        return code in self._by_code

    def of(self, level: Level) -> list[Finding]:
        """In the order in which they were found."""
        return [finding for finding in self._by_code.values() if finding.level == level]

    def all(self) -> list[Finding]:
        """Bugs, then weaknesses, then what could not be told."""
        return [finding for level in Level for finding in self.of(level)]
