"""SpidevBus with the real spidev extension and the real ioctl; ``preload.c`` stands in for the kernel's driver."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from plugin.w5100.emulator import Emulator
from plugin.w5100.selftest import RUN_BYTES
from tests.spidev.chip import late, one_bit_in
from tests.spidev.inside import pattern
from tests.spidev.rig import DEVICE, ROOT, Rig

RTR_FRAMES = "0f001700" + "0f001800"
FAST_HZ = 14_000_000


@pytest.mark.parametrize(
    ("machine", "bufsiz", "align", "largest"),
    [
        ("x86_64", 4096, 8, 511),  # 14 bits for the size of the argument
        ("armv7l", 4096, 64, 64),
        ("aarch64", 4096, 128, 32),
        ("aarch64", 65536, 128, 511),
        ("a new one", 4096, 128, 32),
        ("x86_64", 4096, 128, 31),  # guessed wrong: 511, halved until the kernel takes it
        ("aarch64", 4096, 4096, 1),
    ],
)
def test_as_many_frames_a_call_as_the_kernel_takes(
    rig: Rig, machine: str, bufsiz: int, align: int, largest: int
) -> None:
    assert rig.run("memory", 2000, machine, bufsiz=bufsiz, align=align) is True
    sizes = [len(call.assertions) for call in rig.chip.calls]
    assert max(sizes) == largest
    assert sizes.count(largest) == 2 * (2000 // largest), "what was learnt is remembered"
    assert all(len(frame) == 4 for call in rig.chip.calls for frame in call.assertions), "/CS high between frames"


@pytest.mark.parametrize("frame_bytes", [4, 5, 3 + 200])
def test_frames_of_any_length_are_one_assertion_each(rig: Rig, frame_bytes: int) -> None:
    frames = [bytes((0xF0, 0x40, number)).ljust(frame_bytes, b"\x5a") for number in range(3)]
    answer = bytes.fromhex(rig.run("exchange", b"".join(frames).hex(), frame_bytes))
    assert answer == b"\x00\x01\x02\x03".ljust(frame_bytes, b"\x00") * 3
    assert [call.assertions for call in rig.chip.calls] == [tuple(frames)]


def test_a_frame_larger_than_the_kernels_buffer_says_what_to_do(rig: Rig) -> None:
    with pytest.raises(AssertionError, match=r"Message too long; .* spidev.bufsiz=65536"):
        rig.run("exchange", "00" * 4100, 4100)
    assert rig.chip.calls == []


def test_what_an_earlier_user_left_is_set_right(rig: Rig) -> None:
    mode_3_lsb_first_cs_high_no_cs_loop = 0x03 | 0x08 | 0x04 | 0x40 | 0x20
    answer = rig.run("exchange", RTR_FRAMES, 4, left_mode=mode_3_lsb_first_cs_high_no_cs_loop)
    assert answer == "00010207" + "000102d0"  # the chip itself notes a wrong mode as an offence


def test_a_system_call_does_not_hold_up_other_threads(rig: Rig) -> None:
    rig.chip.gate = 2  # the first call is answered when the other thread has come as far
    assert rig.run("together") == ["00010207", "00010207"]


def test_a_chip_has_one_master(rig: Rig) -> None:
    first, refused, afterwards = rig.run("second")
    assert first == afterwards == "00010207"
    assert refused == f"{DEVICE} is in use by another process: stop the service first, for a chip has one master"


# --- Faults of the device -------------------------------------------------------------------------------------


def test_an_interrupted_call_is_made_again(rig: Rig) -> None:
    rig.chip.errors = {1: errno.EINTR, 2: errno.EINTR, 4: errno.EINTR}
    assert rig.run("errors", 2) == [["07d0"], ["07d0"]]


@pytest.mark.parametrize(
    ("number", "words", "opened"),
    [
        (errno.EIO, "Input/output error", 1),
        (errno.ETIMEDOUT, "the SPI controller hangs", 1),
        (errno.ESHUTDOWN, "its driver was unbound", 2),  # the file leads nowhere any more
    ],
)
def test_an_error_keeps_its_number_and_the_next_exchange_goes_on(
    rig: Rig, number: int, words: str, opened: int
) -> None:
    rig.chip.errors = {2: number}
    first, second, third = rig.run("errors", 3)
    assert first == third == ["07d0"]
    assert second[0] == number
    assert second[1].startswith(f"{DEVICE} did not carry out a transfer: ")
    assert words in second[1]
    assert rig.chip.opened == opened


def test_interruptions_without_end_are_an_error(rig: Rig) -> None:
    rig.chip.errors = dict.fromkeys(range(1, 101), errno.EINTR)
    first, second = rig.run("errors", 2)
    assert (first[0], second) == (errno.EINTR, ["07d0"])


def test_a_device_that_is_not_there_is_told_with_the_remedy(rig: Rig) -> None:
    rig.chip.path.unlink()
    ((number, sentence),) = rig.run("errors", 1)
    assert number == errno.ENOENT
    assert sentence == (
        f"{DEVICE} cannot be opened as an SPI device: No such file or directory; "
        "switch SPI on (dtparam=spi=on in config.txt), and check chip.device"
    )


# --- The clock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked_hz", [FAST_HZ, 3_000_000, 100_000])
def test_a_good_wire_is_used_at_the_clock_that_was_asked_for(rig: Rig, asked_hz: int) -> None:
    assert rig.run("reset", asked_hz) == {"speed_hz": asked_hz, "said": [], "error": None}
    assert {clock for call in rig.chip.calls for clock in call.clocks_hz} == {asked_hz}
    assert any(call.carries_content for call in rig.chip.calls)


@pytest.mark.parametrize(
    ("clean_hz", "settled_hz"),
    [(10_000_000, 10_000_000), (9_000_000, 8_000_000), (1_000_000, 1_000_000), (500_000, 500_000)],
)
@pytest.mark.parametrize("spoil", [late, one_bit_in(97)], ids=["echo", "data"])
def test_a_bad_wire_is_used_at_a_slower_clock_and_it_is_said(
    rig: Rig, clean_hz: int, settled_hz: int, spoil: object
) -> None:
    rig.chip.clean_hz = clean_hz
    rig.chip.spoil = spoil  # type: ignore[assignment]
    told = rig.run("reset", FAST_HZ)
    assert (told["speed_hz"], told["error"]) == (settled_hz, None)
    (said,) = told["said"]
    assert f"from_hz={FAST_HZ} to_hz={settled_hz} problem=" in said
    assert "shorten the wires" in said
    assert "at the faster clock: " in said
    assert rig.chip.calls[-1].clocks_hz == {settled_hz}


@pytest.mark.parametrize("spoil", [late, one_bit_in(97)], ids=["echo", "data"])
def test_a_wire_that_no_clock_helps_is_an_error_at_the_clock_that_was_asked_for(rig: Rig, spoil: object) -> None:
    rig.chip.clean_hz = 400_000
    rig.chip.spoil = spoil  # type: ignore[assignment]
    told = rig.run("reset", FAST_HZ)
    assert (told["speed_hz"], told["said"]) == (FAST_HZ, [])
    assert f"{DEVICE} works at no clock from 14000000 down to 500000 Hz: " in told["error"]
    assert {500_000, FAST_HZ} <= {clock for call in rig.chip.calls for clock in call.clocks_hz}


def test_a_w5100s_is_tested_in_its_long_frames(rig: Rig) -> None:
    rig.chip.emulator = Emulator(model="w5100s")
    rig.chip.clean_hz = 9_000_000
    told = rig.run("reset", FAST_HZ)
    assert (told["speed_hz"], told["error"], len(told["said"])) == (8_000_000, None, 1)
    assert max(len(frame) for call in rig.chip.calls for frame in call.assertions) == 3 + RUN_BYTES


# --- What it costs, and that it is a Bus ----------------------------------------------------------------------


@pytest.mark.parametrize(("bufsiz", "most"), [(65536, 300), (4096, 3400)])
def test_the_calls_that_a_mail_of_100_kib_costs(rig: Rig, bufsiz: int, most: int) -> None:
    size = 100 * 1024
    arrived: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def serve() -> None:
            connection, _ = listener.accept()
            data = b""
            with connection:
                connection.settimeout(60)
                while len(data) < size and (part := connection.recv(1 << 20)):
                    data += part
                connection.sendall(b"taken")
                connection.recv(1)
            arrived.append(data)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        rig.run("send", listener.getsockname()[1], size, "aarch64", bufsiz=bufsiz, align=128)
        server.join(60)
    assert arrived == [pattern(size)]
    # Without what only waits: how often the chip is asked meanwhile is a matter of time.
    content = [call for call in rig.chip.calls if call.carries_content]
    assert sum(len(call.assertions) for call in content) >= size
    assert len(content) <= most


def test_the_contract_of_the_driver_holds_on_the_device(rig: Rig) -> None:
    environment = {
        **os.environ,
        **rig.environment(),
        "W5100_SPI": DEVICE,
        "W5100_ADDRESS": "127.0.0.10/8",
        "W5100_PEER": "127.0.0.1",
    }
    suite = ["tests/w5100/test_contract.py", "-m", "hardware", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *suite],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 15
    assert len(rig.chip.calls) > 1000
