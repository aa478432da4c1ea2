"""The configuration of the HTTP service: `serve:` in a file, flags of `framewire serve`."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from contracts.messages import Score

# On the command line and in the environment a list is one text.
_SPLIT = BeforeValidator(lambda given: given.split(",") if isinstance(given, str) else given)

Origin = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]
Origins = Annotated[tuple[Origin, ...], Field(min_length=1), _SPLIT]


def _network_or_name(entry: Any) -> Any:
    """`10.1.0.0/16` and `10.1.2.3` as a network; a host's name as URLs are compared with it."""
    name = str(entry).strip().lower().removesuffix(".")
    try:
        return ipaddress.ip_network(name)
    except ValueError as error:
        # A name doesn't end in a number: `10.1` is no network, and no host either.
        if re.fullmatch(r"([a-z0-9_-]{1,63}\.)*(?!([0-9]+|0x[0-9a-f]*)$)[a-z0-9_-]{1,63}", name):
            return name
        raise ValueError(
            f"fetch_allow: expected a network (10.1.0.0/16) or a host's name, got {entry}"
        ) from error


NetworkOrName = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network | str, BeforeValidator(_network_or_name)
]
Allowed = Annotated[tuple[NetworkOrName, ...], _SPLIT]
Port = Annotated[int, Field(ge=1, le=65535)]
Ports = Annotated[tuple[Port, ...], _SPLIT]
Megabytes = Annotated[float, Field(gt=0, le=1e6)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]


class ServeSettings(BaseModel):
    """What `framewire serve` can be told, beyond what `framewire run` can."""

    # The docstrings below are also the help texts of the command line.
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on. One that other machines reach takes `api_keys`, or `open`."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""

    api_keys: Path | None = None
    """File with the keys that may be used, a line each, as `framewire api-key` prints it."""

    open: bool = False
    """Let other machines in without `api_keys`: whoever reaches the port may do everything."""

    tls_certificate: Path | None = None
    """File with the certificate chain (PEM); HTTPS is spoken in place of HTTP."""

    tls_key: Path | None = None
    """File with the certificate's private key (PEM)."""

    allowed_origins: Origins | None = None
    """Web pages that may use it from a browser (`https://lab.example`). Left out: none."""

    requests_per_s: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Requests a second that one key may send; without `api_keys`, all together. Left out: any."""

    lowest_min_score: Score = 0.05
    """The lowest `min_score` that a request may ask for."""

    upload_queue_depth: Annotated[int, Field(ge=1, le=4096)] = 32
    """Pictures that may wait for the models; further ones are refused (`overloaded`)."""

    max_upload_megabytes: Megabytes = 20.0
    """A larger picture is refused (`image_too_large`)."""

    max_request_megabytes: Megabytes = 100.0
    """A larger request, with all its pictures, is refused (`request_too_large`)."""

    max_files: Annotated[int, Field(ge=1, le=256)] = 16
    """Pictures that one request may bring."""

    max_memory_megabytes: Megabytes = 1024.0
    """Bytes and pixels of all requests at once; what goes beyond is refused (`overloaded`)."""

    timeout_ms: Milliseconds = 5000
    """How long an answer may take once its picture is here, where the request doesn't say."""

    max_timeout_ms: Milliseconds = 60_000
    """The longest that a request may ask for."""

    upload_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """A request whose body takes longer to come is given up (`request_timeout`)."""

    idle_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """A connection that brings no whole request header for so long is closed."""

    max_connections: Annotated[int, Field(ge=1, le=65536)] = 512
    """Connections at once, idle ones included; further ones are turned away."""

    fetch_urls: bool = False
    """Fetch the pictures whose URLs a request gives, from public addresses."""

    fetch_allow: Allowed | None = None
    """Private networks and hosts to fetch from too (`10.1.0.0/16,images.lab`). Left out: none."""

    fetch_ports: Ports | None = None
    """Ports to fetch from. Left out: 80 and 443."""

    fetch_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """A picture that takes longer to fetch fails (`url_fetch_failed`)."""

    @property
    def local(self) -> bool:
        """True where only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _nobody_is_let_in_by_mistake(self) -> "ServeSettings":
        if not self.local and not self.api_keys and not self.open:
            raise ValueError(
                f"host: other machines reach {self.host}: give api_keys, "
                "or say open: true where everybody may do everything"
            )
        if self.open and self.api_keys:
            raise ValueError("open: says that no keys are needed, but there are api_keys")
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key: one is of no use without the other")
        return self

    @model_validator(mode="after")
    def _nothing_is_asked_in_vain(self) -> "ServeSettings":
        for name in ("fetch_allow", "fetch_ports"):
            if getattr(self, name) and not self.fetch_urls:
                raise ValueError(f"{name}: nothing is fetched while fetch_urls is false")
        return self

    @model_validator(mode="after")
    def _limits_fit_together(self) -> "ServeSettings":
        if self.timeout_ms > self.max_timeout_ms:
            raise ValueError(
                f"timeout_ms: {self.timeout_ms} is above max_timeout_ms {self.max_timeout_ms}"
            )
        if self.max_upload_megabytes > self.max_request_megabytes:
            raise ValueError(
                f"max_upload_megabytes: {self.max_upload_megabytes:g} is above "
                f"max_request_megabytes {self.max_request_megabytes:g}"
            )
        if self.max_request_megabytes > self.max_memory_megabytes:
            raise ValueError(
                f"max_request_megabytes: {self.max_request_megabytes:g} is above "
                f"max_memory_megabytes {self.max_memory_megabytes:g}"
            )
        return self
