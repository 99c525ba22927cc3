"""What several keys must be together, and what this version refuses.

Pure functions from plain data to findings. They take what is sound and leave the rest alone (UNSOUND), so that
they run also when other faults have been found; types and ranges of single values are no matter here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from plugin.config.chip_checks import check_chip
from plugin.config.faults import Finding, KeyPath, did_you_mean
from plugin.config.plain import PLACEHOLDER, Data, has, is_truth, names_in, section_of, sections_in
from plugin.config.relay_checks import check_relay
from plugin.config.values import parse_duration
from plugin.route import check_recipients, covers, quoted
from plugin.route.recipients import AddressBook, check_member
from plugin.route.routing import DEFAULT_MAX_RECIPIENTS, DEFAULT_TEMPLATE


def check(data: Data, *, folder: Path, template_names: Collection[str] | None) -> Iterator[Finding]:
    """Yield all faults and warnings of ``data``.

    Relative paths start at ``folder``; ``template_names`` None means that nobody knows them yet.
    """
    yield from _check_broker(section_of(data, "mqtt"))
    yield from check_chip(data, folder)
    for position, relay in sections_in(data, "relays"):
        yield from check_relay(relay, ("relays", position))
    yield from _check_book(data)
    yield from _check_routes(data, template_names)
    yield from _check_outbox(section_of(data, "outbox"))
    yield from _check_home_assistant(data)
    yield from _check_paths(data, folder)


# --- MQTT ---------------------------------------------------------------------------------------------------
def _check_broker(mqtt: Data) -> Iterator[Finding]:
    if has(mqtt, "password") and not has(mqtt, "username"):
        yield Finding(("mqtt", "password"), "a password needs a username beside it")
    tls = section_of(mqtt, "tls")
    if has(tls, "keyfile") and not has(tls, "certfile"):
        yield Finding(("mqtt", "tls", "keyfile"), "a key needs its certificate: write certfile too")
    if is_truth(tls, "verify", truth=False):
        yield Finding(
            ("mqtt", "tls", "verify"), "the broker's certificate IS NOT CHECKED: anyone may pose as it", True
        )


# --- Recipients and routes ----------------------------------------------------------------------------------
def _book(data: Data) -> dict[str, str | list[str]]:
    return {
        name: names_in(entry) if isinstance(entry, list) else entry if isinstance(entry, str) else PLACEHOLDER
        for name, entry in section_of(data, "recipients").items()
    }


def _check_book(data: Data) -> Iterator[Finding]:
    book = _book(data)
    for fault in check_recipients(book):
        near = did_you_mean(fault.unknown, book) if fault.unknown is not None else ""
        position = () if fault.position is None else (fault.position,)
        yield Finding(("recipients", fault.name, *position), f"{fault.reason}{near}")


def _check_routes(data: Data, template_names: Collection[str] | None) -> Iterator[Finding]:
    book = _book(data)
    book_is_sound = isinstance(data.get("recipients", {}), dict | None)
    routes = sections_in(data, "routes")
    for position, route in routes:
        path: KeyPath = ("routes", position)
        for key in ("to", "cc", "bcc"):
            for at, name in enumerate(names_in(route.get(key))):
                if name in book or (not book_is_sound and "@" not in name):
                    continue
                if wrong := check_member(name):
                    place = (at,) if isinstance(route.get(key), list) else ()
                    yield Finding((*path, key, *place), f"{wrong}{did_you_mean(name, book)}")
        template = route.get("template", DEFAULT_TEMPLATE)
        if template_names is not None and isinstance(template, str) and template not in template_names:
            near = did_you_mean(template, template_names)
            yield Finding((*path, "template"), f"there is no template {quoted(template)}{near}")
    yield from _check_order(routes, data)
    yield from _check_sizes(routes, data, book)


def _check_order(routes: list[tuple[int, Data]], data: Data) -> Iterator[Finding]:
    base = section_of(data, "topics").get("base", "alerts")
    earlier: list[tuple[int, str]] = []
    for position, route in routes:
        topic = route.get("topic")
        if not isinstance(topic, str):
            continue
        path: KeyPath = ("routes", position, "topic")
        below = f"{base}/email/"
        if topic.startswith(below):
            text = f"filters are taken below {below} already: write {quoted(topic.removeprefix(below))}"
            yield Finding(path, text, warning=True)
        before = next((one for one in earlier if covers(one[1], topic)), None)
        if before is not None:
            text = (
                f"is never reached: routes[{before[0]}] ({quoted(before[1])}) stands before it and takes all of it"
            )
            yield Finding(path, text, warning=True)
        earlier.append((position, topic))


def _check_sizes(
    routes: list[tuple[int, Data]], data: Data, book: Mapping[str, str | list[str]]
) -> Iterator[Finding]:
    limit = section_of(data, "limits").get("recipients", DEFAULT_MAX_RECIPIENTS)
    try:
        known = AddressBook(book, ())
    except ValueError:
        return  # its faults have been found
    for position, route in routes:
        names = [name for key in ("to", "cc", "bcc") for name in names_in(route.get(key))]
        count = len(set(known.expand(name for name in names if name in known or check_member(name) is None)))
        if isinstance(limit, int) and count > limit:
            text = f"names {count} recipients, more than limits.recipients ({limit})"
            yield Finding(("routes", position), text)


# --- The rest -----------------------------------------------------------------------------------------------
def _check_outbox(outbox: Data) -> Iterator[Finding]:
    retry = section_of(outbox, "retry")
    try:
        first, longest = parse_duration(retry.get("first", 10)), parse_duration(retry.get("longest", 900))
    except ValueError:
        return
    if longest < first:
        yield Finding(("outbox", "retry", "longest"), f"must not be shorter than first ({first:g} s)")


def _check_home_assistant(data: Data) -> Iterator[Finding]:
    section = section_of(data, "home_assistant")
    prefix = section.get("prefix", "homeassistant")
    if isinstance(prefix, str) and prefix == section_of(data, "topics").get("base", "alerts"):
        yield Finding(("home_assistant", "prefix"), "must differ from topics.base")


def _check_paths(data: Data, folder: Path) -> Iterator[Finding]:
    for position, relay in sections_in(data, "relays"):
        token_file = relay.get("token_file")
        if isinstance(token_file, str) and not _is_file(folder / token_file):
            text = f"there is no file {folder / token_file} yet, and no login without it"
            yield Finding(("relays", position, "token_file"), text, warning=True)
    templates_dir = data.get("templates_dir")
    if isinstance(templates_dir, str) and not _is_folder(folder / templates_dir):
        yield Finding(("templates_dir",), f"there is no folder {folder / templates_dir}", warning=True)
    allowed_dirs = section_of(data, "attachments").get("allowed_dirs")
    for position, name in enumerate([allowed_dirs] if isinstance(allowed_dirs, str) else allowed_dirs or ()):
        path: KeyPath = ("attachments", "allowed_dirs", position)
        if not isinstance(name, str):
            continue
        if not _is_folder(folder / name):
            yield Finding(path, f"there is no folder {folder / name}", warning=True)
        elif (folder / name).resolve() == Path("/"):
            yield Finding(path, "admits every file of this machine to mails", warning=True)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
