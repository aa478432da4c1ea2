"""Every failure has a name: the tree of errors, each leaf with its stable code.

FramewireError
├── BadSetting             bad_setting            the run can't start as asked
├── ModelError                                    a model can't be made ready
│   ├── UnknownModel       unknown_model
│   ├── WeightsUnavailable weights_unavailable
│   ├── WeightsUnreadable  weights_unreadable
│   ├── WeightsMismatch    weights_mismatch
│   ├── UnsupportedModel   unsupported_model
│   └── DeviceUnavailable  device_unavailable
├── SourceError                                   frames don't come
│   ├── SourceNotFound     source_not_found
│   ├── NotAVideo          not_a_video
│   ├── NotAnImage         not_an_image
│   ├── StreamLost                                a live source gives no frames
│   │   ├── Refused        refused
│   │   ├── Timeout        timeout
│   │   ├── AuthFailed     auth_failed
│   │   ├── NotFound       not_found
│   │   ├── TlsError       tls_error
│   │   ├── UnsupportedCodec unsupported_codec
│   │   ├── Stalled        stalled
│   │   ├── Ended          ended
│   │   └── SourceLost     source_lost
│   ├── TruncatedVideo     truncated_video
│   ├── DecodeError        decode_error
│   ├── CorruptImage       corrupt_image
│   └── FrameTooLarge      frame_too_large
├── InferenceError         inference_error        a batch went wrong
│   ├── OutOfMemory        out_of_memory
│   ├── ModelUnavailable   model_unavailable
│   ├── InferenceHung      inference_hung
│   ├── ContractViolation  contract_violation
│   └── FilterFailed       filter_failed
├── SinkError                                     results can't leave
│   ├── OutputUnwritable   output_unwritable
│   ├── DiskFull           disk_full
│   ├── EndpointUnavailable endpoint_unavailable
│   └── NoSubscriber       no_subscriber
├── NoPublisher            no_publisher           nothing comes from a process
├── ServiceUnreachable     service_unreachable    nothing answers at a service's address
├── WireError                                     what comes from a process can't be read
│   ├── UnknownVersion     unknown_version
│   └── BrokenMessage      broken_message
├── RequestError                                  the service can't answer a request
│   ├── UnsupportedMediaType unsupported_media_type
│   ├── TruncatedImage     truncated_image
│   ├── ImageTooLarge      image_too_large
│   ├── TooManyPixels      too_many_pixels
│   ├── EmptyUpload        empty_upload
│   ├── MissingFile        missing_file
│   ├── BadParameter       bad_parameter
│   ├── UrlNotAllowed      url_not_allowed
│   ├── UrlFetchFailed     url_fetch_failed
│   ├── RequestTooLarge    request_too_large
│   ├── RequestTimeout     request_timeout
│   ├── Unauthorized       unauthorized
│   ├── Forbidden          forbidden
│   ├── RateLimited        rate_limited
│   ├── NoSuchPath         no_such_path
│   ├── MethodNotAllowed   method_not_allowed
│   ├── Overloaded         overloaded
│   └── DeadlineExceeded   deadline_exceeded
└── InternalError          internal_error         a defect of framewire itself

The code appears unchanged in messages, log lines, summaries and exit lines. The exit status says
how far the run came: 2 it was asked wrongly, 3 it could not start, 1 it ran and something failed,
70 it hung and had to be ended.
"""

from typing import ClassVar

from contracts.uris import redact


class FramewireError(Exception):
    """Something that framewire can name. The text says who, what was expected and what came."""

    code: ClassVar[str] = ""
    exit_status: int = 1
    http_status: ClassVar[int] = 500

    def __str__(self) -> str:
        """One line of valid Unicode without passwords, whatever a library put into the text."""
        text = " ".join(redact(super().__str__()).split())
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


class BadSetting(FramewireError):
    """A flag, configuration key or value is not one that framewire takes."""

    code = "bad_setting"
    exit_status = 2
    http_status = 400


class ModelError(FramewireError):
    """A model can't be made ready. Raised at start-up only, before the first frame is read."""

    exit_status = 3


class UnknownModel(ModelError):
    """The model's name is not one that framewire knows."""

    code = "unknown_model"
    exit_status = 2


class WeightsUnavailable(ModelError):
    """The weights are not there: the file is missing, or the download failed."""

    code = "weights_unavailable"


class WeightsUnreadable(ModelError):
    """The weights file is damaged, or is a pickle that would run code when loaded."""

    code = "weights_unreadable"


class WeightsMismatch(ModelError):
    """The weights belong to another architecture or another set of classes."""

    code = "weights_mismatch"


class UnsupportedModel(ModelError):
    """The file is whole, but no runtime can compute it, or its outputs are not understood."""

    code = "unsupported_model"


class DeviceUnavailable(ModelError):
    """The device asked for is not on this machine."""

    code = "device_unavailable"


class SourceError(FramewireError):
    """Frames don't come from a source, or one of them doesn't."""


class SourceNotFound(SourceError):
    """The file, folder or camera does not exist, or the pattern matches nothing."""

    code = "source_not_found"
    exit_status = 3
    http_status = 400


class NotAVideo(SourceError):
    """The file can be read but holds no video that can be decoded."""

    code = "not_a_video"


class NotAnImage(SourceError):
    """The file can be read but is not an image of a kind that framewire reads."""

    code = "not_an_image"


class StreamLost(SourceError):
    """A live source gives no frames: it can't be reached, or it broke off."""


class Refused(StreamLost):
    """Nothing listens at the address, or it can't be reached."""

    code = "refused"


class Timeout(StreamLost):
    """The server did not answer, or sent no picture, within `open_timeout_s`."""

    code = "timeout"


class AuthFailed(StreamLost):
    """The server wants credentials, or refuses those in the URL."""

    code = "auth_failed"


class NotFound(StreamLost):
    """The server answers, and has nothing under that path."""

    code = "not_found"


class TlsError(StreamLost):
    """No secure connection: the certificate can't be trusted, or the two sides can't agree."""

    code = "tls_error"


class UnsupportedCodec(StreamLost):
    """The stream holds no video that can be decoded here."""

    code = "unsupported_codec"


class Stalled(StreamLost):
    """The connection stands, but nothing came for longer than `stall_timeout_s`."""

    code = "stalled"


class Ended(StreamLost):
    """The server ended the stream, or closed the connection in good order."""

    code = "ended"


class SourceLost(StreamLost):
    """A live source stopped giving frames."""

    code = "source_lost"


class TruncatedVideo(SourceError):
    """The file ends in the middle; what could be decoded before that was delivered."""

    code = "truncated_video"


class DecodeError(SourceError):
    """One piece of the stream can't be decoded; reading goes on after it."""

    code = "decode_error"


class CorruptImage(SourceError):
    """The image file is damaged or cut short."""

    code = "corrupt_image"
    http_status = 400


class FrameTooLarge(SourceError):
    """The frame has more pixels than `max_frame_megapixels` allows; it is not converted."""

    code = "frame_too_large"


class InferenceError(FramewireError):
    """The model raised an exception; the frames of its batch are failed by name."""

    code = "inference_error"


class OutOfMemory(InferenceError):
    """There is not enough memory left, even for one frame at a time."""

    code = "out_of_memory"


class ModelUnavailable(InferenceError):
    """The models kept failing and are to be loaded again; the frame was not looked at."""

    code = "model_unavailable"
    http_status = 503


class InferenceHung(InferenceError):
    """A batch took longer than `inference_timeout_s`; the process ends, to be started anew."""

    code = "inference_hung"
    exit_status = 70


class ContractViolation(InferenceError):
    """A model's output breaks the contract, so nothing of that frame is delivered."""

    code = "contract_violation"


class FilterFailed(InferenceError):
    """A safety filter could not judge the frame, so nothing of that frame is delivered."""

    code = "filter_failed"


class SinkError(FramewireError):
    """Results can't leave."""


class OutputUnwritable(SinkError):
    """The output file can't be made or written."""

    code = "output_unwritable"
    exit_status = 3


class DiskFull(SinkError):
    """The disk filled up while results were written; what was written before is whole."""

    code = "disk_full"


class EndpointUnavailable(SinkError):
    """An address can't be listened on: it is in use, or not an address of this machine."""

    code = "endpoint_unavailable"
    exit_status = 3


class NoSubscriber(SinkError):
    """The subscribers that the run was told to wait for did not come in time."""

    code = "no_subscriber"
    exit_status = 3


class NoPublisher(FramewireError):
    """Nothing came from the endpoint in time: no run publishes there."""

    code = "no_publisher"
    exit_status = 3


class ServiceUnreachable(FramewireError):
    """Nothing answers at the address that was to be checked: no service listens there."""

    code = "service_unreachable"
    exit_status = 3


class WireError(FramewireError):
    """What a subscriber received can't be read."""


class UnknownVersion(WireError):
    """The message is of a newer version than this subscriber reads: update it."""

    code = "unknown_version"


class BrokenMessage(WireError):
    """The message is not what its version promises: something else publishes there."""

    code = "broken_message"


class RequestError(FramewireError):
    """The service can't answer a request; `http_status` goes with it."""

    http_status = 400


class UnsupportedMediaType(RequestError):
    """The upload is not a JPEG, PNG or WebP picture, whatever its header says."""

    code = "unsupported_media_type"


class TruncatedImage(RequestError):
    """The picture ends in the middle."""

    code = "truncated_image"


class ImageTooLarge(RequestError):
    """The picture has more bytes than the service takes."""

    code = "image_too_large"
    http_status = 413


class TooManyPixels(RequestError):
    """The picture's header promises more pixels than the service takes; it is not decoded."""

    code = "too_many_pixels"
    http_status = 413


class EmptyUpload(RequestError):
    """The upload has no bytes."""

    code = "empty_upload"


class MissingFile(RequestError):
    """The request has no part named `file`, and no picture as its body."""

    code = "missing_file"


class BadParameter(RequestError):
    """A parameter, header or body of the request is not one that the service takes."""

    code = "bad_parameter"


class UrlNotAllowed(RequestError):
    """The service must not fetch this URL, or none at all."""

    code = "url_not_allowed"


class UrlFetchFailed(RequestError):
    """The URL gave no picture in time."""

    code = "url_fetch_failed"


class RequestTooLarge(RequestError):
    """The request as a whole has more bytes than the service takes."""

    code = "request_too_large"
    http_status = 413


class RequestTimeout(RequestError):
    """The request did not come in time."""

    code = "request_timeout"
    http_status = 408


class Unauthorized(RequestError):
    """The request has no key that the service knows."""

    code = "unauthorized"
    http_status = 401


class Forbidden(RequestError):
    """The key is known, but not for this."""

    code = "forbidden"
    http_status = 403


class RateLimited(RequestError):
    """The key's requests come faster than it may send them."""

    code = "rate_limited"
    http_status = 429


class NoSuchPath(RequestError):
    """The service has nothing there."""

    code = "no_such_path"
    http_status = 404


class MethodNotAllowed(RequestError):
    """The path doesn't take this method."""

    code = "method_not_allowed"
    http_status = 405


class Overloaded(RequestError):
    """Too many requests wait already; try again later."""

    code = "overloaded"
    http_status = 503


class DeadlineExceeded(RequestError):
    """The answer did not come before the request's deadline."""

    code = "deadline_exceeded"
    http_status = 504


class InternalError(FramewireError):
    """A defect of framewire itself: the log line has the traceback; please report it."""

    code = "internal_error"


def leaves(root: type[FramewireError] = FramewireError) -> list[type[FramewireError]]:
    """Every class of the tree that has a code, in the order in which they are drawn above."""
    found = [root] if root.code else []
    for child in root.__subclasses__():
        found += leaves(child)
    return found
