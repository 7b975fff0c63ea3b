"""Settings of the control plane, declared once; they are in the `[control]` table of the configuration file."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from headrace.amounts import parse_seconds
from headrace.checking.addresses import DENIED, AddressRules
from headrace.errors import UsageError
from headrace.settings import Setting, names, read_config, values_of

SETTINGS = (
    Setting("control_database", "text", "", "URL of the database, `sqlite:////PATH` or `postgresql://USER@HOST/NAME`. "
            "Default: control.db in the state directory."),
    Setting("control_state", "path", "", "Directory for the database and the master key where nothing else is said; 0700. "
            "Default: /var/lib/headrace for root, ~/.local/state/headrace otherwise."),
    Setting("control_listen", "text", "127.0.0.1:7370", "Address and port to listen on. One that is not loopback needs a certificate."),
    Setting("control_certificate", "path", "", "Certificate chain (PEM) to serve HTTPS with."),
    Setting("control_certificate_key", "path", "", "Private key (PEM) of that certificate."),
    Setting("control_master_key", "text", "", "Master key that credentials are sealed under: 32 bytes in base 64. "
            "Default: read from the file below."),
    Setting("control_master_key_file", "path", "", "File with the master key. Default: master.key in the state directory, made at the first start "
            "when the database is SQLite; several replicas must be given the same one."),
    Setting("control_master_key_command", "text", "", "Program, with arguments, that keeps the master key instead, such as a KMS's client in "
            "a script. Called with `wrap` or `unwrap` after them, it seals or opens what it is given in base 64 on its standard input, and "
            "answers so."),
    Setting("control_origins_allow", "names", "", "Networks that endpoints may be in although they are denied below, separated by commas."),
    Setting("control_origins_deny", "names",
            ",".join(DENIED),
            "Networks that endpoints may not be in: this machine itself, where clouds keep credentials of machines (link-local, and what "
            "Alibaba Cloud, AWS, Azure, Google and Oracle use besides), NAT64 of a site, and what is no host's address."),
    Setting("control_events_keep", "seconds", "90d", "How long events are kept; 0 keeps them for ever."),
)  # fmt: skip


@dataclass(frozen=True)
class ControlSettings:
    """Settings in force."""

    database: str
    state: Path
    host: str
    port: int
    certificate: Path | None
    certificate_key: Path | None
    master_key: str
    master_key_file: Path
    master_key_command: str
    origins: AddressRules
    events_keep: timedelta | None  # None: for ever

    @property
    def on_sqlite(self) -> bool:
        return self.database.startswith("sqlite")


def load(options: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None) -> ControlSettings:
    """The settings in force. Raises UsageError naming the field, the cause and the remedy."""
    env = os.environ if environ is None else environ
    table = read_config(env).get("control", {})
    if not isinstance(table, dict):
        raise UsageError("bad-setting", "control: it is a table of the configuration file; write [control] above its settings")
    values = values_of(SETTINGS, {f"control_{name}": value for name, value in table.items()}, options or {}, env)
    state = Path(values["control_state"]) if values["control_state"] else _default_state(env)
    host, port = _listen(values["control_listen"])
    certificate, key = _certificate(values)
    if certificate is None and not _is_loopback(host):
        raise UsageError("bad-setting", f"control listen: {host} is not loopback and there is no certificate; give control_certificate and its key")
    return ControlSettings(
        database=values["control_database"] or f"sqlite:///{state.absolute()}/control.db",
        state=state,
        host=host,
        port=port,
        certificate=certificate,
        certificate_key=key,
        master_key=values["control_master_key"],
        master_key_file=Path(values["control_master_key_file"] or state / "master.key"),
        master_key_command=values["control_master_key_command"],
        origins=AddressRules.of(names(values["control_origins_allow"]), names(values["control_origins_deny"])),
        events_keep=timedelta(seconds=parse_seconds("control events keep", values["control_events_keep"])) or None,
    )


def _certificate(values: Mapping[str, str]) -> tuple[Path | None, Path | None]:
    certificate, key = values["control_certificate"], values["control_certificate_key"]
    if bool(certificate) != bool(key):
        raise UsageError("bad-setting", "control certificate: a certificate and its key come together; give both or neither")
    return (Path(certificate), Path(key)) if certificate else (None, None)


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError("bad-setting", f"control listen: {text!r} is not an address and a port; write 127.0.0.1:7370 or [::1]:7370")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UsageError("bad-setting", f"control listen: {host!r} is not an IP address; write 127.0.0.1:7370 or 0.0.0.0:7370") from None
    return host, int(port)


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _default_state(env: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/headrace")
    return Path(env.get("XDG_STATE_HOME") or Path(env.get("HOME", "/")) / ".local/state") / "headrace"
