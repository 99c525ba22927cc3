"""A W5100 in software: ``Emulator()`` is a Bus, accurate at the SPI frame, with the host's network behind it.
``Emulator(model="w5100s")`` is a W5100S.

What is there
    The SPI frame (echo 00 01 02, then 03 or the data; other opcodes are answered 00 01 02 03 and change nothing;
    a fifth octet in a frame is ignored and reads 00). All registers with reset values, mirrors and latches; the
    commands and Sn_SR of TCP (both directions of opening), UDP and IPRAW; Sn_IR, IR, IMR and /INT; RTR and RCR;
    TX and RX windows with free-running pointers, over-subscription included. Faults on order: ``inject``.
    Where WIZnet's papers are silent, the model is MAME's w5100, which was compared with silicon.

What a W5100S has beside that
    Frames with any number of data octets, for which the address counts up, on into the next registers and within
    8 KiB (behind 0x5FFF comes 0x4000); MISO stays at 03 through what is written. MR reads 03 after a reset, VERR
    51; PHYSR tells the link. RMSR and TMSR follow Sn_RXBUF_SIZE and Sn_TXBUF_SIZE. Undocumented socket pages show
    all four sockets. Sn_SR is never ARP. Its other registers (MR2 to TCNTCLKR, Sn_IMR, Sn_KPALVTR, Sn_RTR, Sn_RCR)
    are not there; they read 0.

What stands behind it
    Kernel sockets of this host. They are served at every exchange that touches a register, and in
    ``wait_interrupt``; no thread is started. Sn_DIPR is used as it is, on the host's network, loopback included:
    SIPR, GAR, SUBR and SHAR can be written and read and steer nothing. Sn_PORT is the source port where the host
    grants it, else the kernel chooses one. What the kernel has taken counts as acknowledged.

What differs from silicon
    * CLOSE: the chip says nothing to its peer, which then waits for ever. Here the peer gets RST at once (unless
      DISCON had already sent the FIN), so that a missing DISCON is seen, and the host keeps no dead connections.
      Reset and OPEN of an open socket do the same.
    * A caller for a port whose last LISTENing socket has taken its connection gets no answer until the next
      LISTEN, as on silicon, whose RST for a stray SYN has no effect; those who called before wait in the kernel's
      queue, connected. This holds for the last four such ports, until a reset of the chip, and needs Linux.
      Elsewhere, at any other port and after CLOSE of a LISTENing socket, the host refuses.
    * ARP is the kernel's. Sn_SR shows 01 until the next exchange, and for RTR x (RCR + 1) where the kernel knows
      no way to the destination; a silent host behind a known way is a SYN without answer. Sn_DHAR is made up:
      02 00 and the peer's IP. 0.0.0.0 never answers.
    * Passing states (ARP, SYNSENT, SYNRECV, LAST_ACK) last as long as they last in the kernel; on loopback they
      are over at the next exchange. ``HeldStatus`` makes one last. LISTEN with a caller waiting and ESTABLISHED
      with the peer's FIN waiting stay until Sn_SR has been read once, FIN or RST behind data until Sn_RX_RSR has
      been, or for 16 looks at the network.
    * While the peer's window is closed SEND_OK is held back until the kernel has taken the last octet.
    * Data and FIN are retried by the kernel, bounded by RTR and RCR as they were when the connection opened.
      SEND_KEEP switches the kernel's keep-alive on, once a second, until the connection ends.
    * A datagram for a UDP port that is bound twice goes to the first; the second socket gets another port.
    * IPRAW needs CAP_NET_RAW, or for ICMP (Sn_PROTO 1) a group in net.ipv4.ping_group_range. Without it nothing is
      received, and a SEND ends as on a net where no one answers: TIMEOUT. Echo requests are never delivered from
      the network; ``ping`` models one.

What is not there
    MACRAW and PPPoE beyond Sn_SR (SEND in MACRAW ends with SEND_OK, no frame leaves), PATR, PCON to PCJ, the
    indirect bus (MR.IND and MR.AI are stored), IGMP version 1; Sn_TOS, Sn_TTL, Sn_FRAGR, PTIMER and PMAGIC are
    stored and steer nothing; Sn_MSSR splits UDP only. ND in Sn_MR is stored: the kernel decides about delayed
    acknowledgements. The chip's bug of a FIN in every segment that follows DISCON with data pending, its useless
    RST for stray segments, and its ARP errata 2 and 3.
"""

from __future__ import annotations

from plugin.w5100.emulator.device import Emulator
from plugin.w5100.emulator.faults import (
    ChipReset,
    ExchangeError,
    Fault,
    FlippedBit,
    HeldStatus,
    LinkDown,
    SocketFault,
    StuckBus,
    StuckCommand,
    UnansweredSend,
)

__all__ = [
    "ChipReset",
    "Emulator",
    "ExchangeError",
    "Fault",
    "FlippedBit",
    "HeldStatus",
    "LinkDown",
    "SocketFault",
    "StuckBus",
    "StuckCommand",
    "UnansweredSend",
]
