"""One run of the doctor: what is looked at, in which order, and how it is told."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

import trio

from mountfs.backends import open_diagnosis
from mountfs.configuration.config import MountConfig
from mountfs.doctor.deeds import Trial
from mountfs.doctor.host import host_findings
from mountfs.doctor.pace import pace_findings
from mountfs.doctor.reach import reach
from mountfs.errors import UsageError
from mountfs.sentences import sentence_about
from mountfs.serving.stack import open_base
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.diagnosis import Diagnosis, Finding, State
from mountfs.storage.errors import NotFound, StoreError
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.terminal import clear_line, plain, write_line

WHOLE_S = 10.0
"""More than this, and what is not known yet stays unknown."""
_PATIENCE = RetryPolicy(attempts=2, metadata_s=4.0, read_s=4.0, write_s=4.0, copy_s=4.0)
_COLOURS = {State.OK: "32", State.WARN: "33", State.FAIL: "31", State.SKIP: "2"}


@dataclass(slots=True)
class Report:
    """What was found, in the order that it is told."""

    host: list[Finding] = field(default_factory=list)
    service: list[Finding] = field(default_factory=list)
    allowed: list[Finding] = field(default_factory=list)
    bucket: list[Finding] = field(default_factory=list)
    pace: list[Finding] = field(default_factory=list)

    def sections(self) -> dict[str, list[Finding]]:
        """Return the findings by the title that they stand under."""
        return {
            "this host": self.host,
            "the service": self.service,
            "what is allowed": self.allowed,
            "the bucket": self.bucket,
            "speed": self.pace,
        }

    @property
    def has_failed(self) -> bool:
        """Whether anything stands in the way of a mount."""
        all_of_them = [each for part in self.sections().values() for each in part]
        return any(each.state is State.FAIL for each in all_of_them)


def examine(config: MountConfig, *, as_json: bool, out: TextIO) -> int:
    """Look at everything, tell it, and return the exit code. Raises `UsageError`."""
    write_line(f"looking at this host and {plain(config.url)}", out)
    try:
        report = trio.run(_examine, config)
    finally:
        clear_line(out)
    out.write(_as_json(config, report) if as_json else _as_text(config, report, out))
    return 1 if report.has_failed else 0


def policy(config: MountConfig) -> str:
    """Return what must be allowed for a mount of this store. Raises `UsageError`."""
    diagnosis = _diagnosis(config)
    if diagnosis is None:
        scheme = config.url.partition("://")[0]
        raise UsageError(f"{scheme}:// has no policy: the file system has permissions")
    try:
        return diagnosis.policy(read_only=config.read_only)
    finally:
        trio.run(diagnosis.close)


async def _examine(config: MountConfig) -> Report:
    report = Report()
    diagnosis = _diagnosis(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_look_at_host, config, report)
        nursery.start_soon(_look_at_store, config, diagnosis, report)
    return report


def _diagnosis(config: MountConfig) -> Diagnosis | None:
    try:
        return open_diagnosis(config.url, config.store_options)
    except StoreError as error:
        raise UsageError(sentence_about(config.url, error)) from error


async def _look_at_host(config: MountConfig, report: Report) -> None:
    report.host += await trio.to_thread.run_sync(host_findings, config)


async def _look_at_store(
    config: MountConfig, diagnosis: Diagnosis | None, report: Report
) -> None:
    try:
        with trio.move_on_after(WHOLE_S) as scope:
            if diagnosis is None or await _is_there(diagnosis, report):
                await _ask_store(config, diagnosis, report)
    finally:
        if diagnosis is not None:
            with trio.CancelScope(shield=True):
                await diagnosis.close()
    if scope.cancelled_caught:
        is_usable = bool(report.allowed)
        what = "not everything was" if is_usable else "nothing was"
        text = f"{what} answered within {WHOLE_S:.0f} s"
        cure = "try again; if it stays so, the store or the network is too slow"
        state = State.WARN if is_usable else State.FAIL
        report.pace.append(Finding("time", state, text, cure))


async def _is_there(diagnosis: Diagnosis, report: Report) -> bool:
    """Tell whether credentials and server are such that the store can be asked."""
    found: list[Finding] = []

    async def look_for_credentials() -> None:
        found.append(
            await trio.to_thread.run_sync(diagnosis.credentials, abandon_on_cancel=True)
        )

    reached = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_for_credentials)
        address = await trio.to_thread.run_sync(
            diagnosis.address, abandon_on_cancel=True
        )
        if address is not None:
            told = await trio.to_thread.run_sync(reach, address, abandon_on_cancel=True)
            report.service += told.findings
            reached = told.is_reached
    report.service += found
    return reached and all(each.state is not State.FAIL for each in found)


async def _ask_store(
    config: MountConfig, diagnosis: Diagnosis | None, report: Report
) -> None:
    try:
        base = await trio.to_thread.run_sync(open_base, config)
    except UsageError as error:
        report.allowed.append(_of_sentence("open", config.url, str(error)))
        return
    try:
        store = RetryStorager(base, _PATIENCE)
        if not await _can_be_listed(config, store, report):
            return
        await _try_out(config, store, diagnosis, report)
    finally:
        with trio.CancelScope(shield=True):
            await base.close()


async def _can_be_listed(config: MountConfig, store: Storager, report: Report) -> bool:
    try:
        await store.list("", limit=1)
    except NotFound as error:
        if type(error) is NotFound:
            return True  # the directory of the prefix will be made
        failed: StoreError = error
    except StoreError as error:
        failed = error
    else:
        return True
    sentence = sentence_about(config.url, failed)
    report.allowed.append(_of_sentence("list", config.url, sentence))
    return False


def _of_sentence(what: str, url: str, sentence: str) -> Finding:
    """Return the failure that a sentence tells of, its cure apart from the rest."""
    text, bracket, cure = sentence.removeprefix(f"{url}: ").partition("): ")
    return Finding(what, State.FAIL, f"{text})" if bracket else text, cure)


async def _try_out(
    config: MountConfig,
    store: Storager,
    diagnosis: Diagnosis | None,
    report: Report,
) -> None:
    needs = diagnosis.needs if diagnosis is not None else {}
    trial = Trial(store, needs, read_only=config.read_only)

    async def look_at_bucket() -> None:
        if diagnosis is not None:
            report.bucket += await diagnosis.bucket()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_at_bucket)
            report.allowed += await trial.run()
            report.allowed.append(await trial.conditions())
        report.pace += await pace_findings(store, trial)
    finally:
        with trio.CancelScope(shield=True):
            report.allowed += await trial.clean_up()


def _as_json(config: MountConfig, report: Report) -> str:
    document = {
        "url": config.url,
        "ok": not report.has_failed,
        "findings": [
            {
                "section": title,
                "what": each.what,
                "state": each.state.value,
                "text": plain(each.text),
                "cure": plain(each.cure),
            }
            for title, part in report.sections().items()
            for each in part
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _as_text(config: MountConfig, report: Report, out: TextIO) -> str:
    lines = [plain(config.url)]
    for title, part in report.sections().items():
        if part:
            lines += ["", title, *_lines(part, is_coloured=out.isatty())]
    lines += ["", _summary(report)]
    return "\n".join(lines) + "\n"


def _lines(findings: Sequence[Finding], *, is_coloured: bool) -> list[str]:
    width = max(len(each.what) for each in findings)
    lines: list[str] = []
    for each in findings:
        word = f"{each.state.value:<4}"
        if is_coloured:
            word = f"\033[{_COLOURS[each.state]}m{word}\033[0m"
        lines.append(f"  {word}  {each.what:<{width}}  {plain(each.text)}")
        if each.cure and each.state is not State.OK:
            lines.append(f"        {'':<{width}}  -> {plain(each.cure)}")
    return lines


def _summary(report: Report) -> str:
    all_of_them = [each for part in report.sections().values() for each in part]
    failed = sum(each.state is State.FAIL for each in all_of_them)
    warned = sum(each.state is State.WARN for each in all_of_them)
    if failed:
        return f"{failed} to mend before a mount works, {warned} worth knowing"
    return f"a mount works; {warned} worth knowing" if warned else "all is well"
