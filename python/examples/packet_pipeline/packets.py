"""Where a packet's payload is, how it is masked, and how packets are stored."""

import struct
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

MASK = 0x78  # "x": what every payload byte becomes

# Link types as libpcap numbers them.
ETHERNET = 1
RAW_IP = 12
COOKED = 113  # Linux "any" interface
LINK_TYPES = {ETHERNET: "Ethernet", RAW_IP: "raw IP", COOKED: "Linux cooked"}

_VLAN = {0x8100, 0x88A8}
_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_ICMP, TCP, UDP, _ICMPV6 = 1, 6, 17, 58
_V6_OPTIONS = {0, 43, 60}  # hop by hop, routing, destination
_V6_FRAGMENT = 44

# protocol: bytes of its smallest header, where the checksum is in it
_TRANSPORTS = {TCP: (20, 16), UDP: (8, 6), _ICMP: (8, 2), _ICMPV6: (8, 2)}


class Record(NamedTuple):
    """One captured packet."""

    seconds: int
    microseconds: int
    wire_bytes: int  # its length on the wire; data may hold less
    data: bytes


class Network(NamedTuple):
    """What the IP header says."""

    protocol: int
    transport: int  # offset of what follows the IP headers
    end: int  # offset behind the IP packet; link padding may follow
    addresses: bytes  # source and destination
    is_first: bool  # holds the transport header
    is_whole: bool  # neither a fragment nor cut off by the capture


def mask(data: bytes, link_type: int, *, fits: bool = True) -> bytes:
    """Keeps the headers, replaces every other byte by MASK, keeps the length.

    `fits`: the TCP, UDP or ICMP checksum is made to fit the new payload where the
    whole payload is there; else it stays as it was captured. What is not a header
    known here counts as payload.
    """
    ether_type, start = _read_link(data, link_type)
    if ether_type == _ARP:
        return data
    network = _read_network(data, ether_type, start)
    if network is None:
        return data[:start] + _masked(len(data) - start)
    if not network.is_first:
        return data[: network.transport] + _masked(len(data) - network.transport)
    return _mask_transport(data, network, fits)


def is_sound(data: bytes, link_type: int) -> bool | None:
    """Whether the TCP, UDP or ICMP checksum of a packet is right; None if it has
    none, or not all that it covers is there."""
    network = _read_network(data, *_read_link(data, link_type))
    if network is None or not (network.is_first and network.is_whole):
        return None
    size, checksum = _transport_header(data, network)
    if not size:
        return None
    segment = data[network.transport : network.end]
    told = segment[checksum : checksum + 2]
    if network.protocol == UDP and told == b"\0\0":
        return None
    zeroed = segment[:checksum] + b"\0\0" + segment[checksum + 2 : size]
    value = transport_checksum(
        network.protocol,
        network.addresses,
        zeroed,
        sum16(segment[size:]),
        len(segment),
    )
    # 0 and 0xFFFF are the same sum.
    return (value - int.from_bytes(told, "big")) % 0xFFFF == 0


def _read_network(data: bytes, ether_type: int, start: int) -> Network | None:
    if ether_type == _IPV4:
        return _read_ipv4(data, start)
    if ether_type == _IPV6:
        return _read_ipv6(data, start)
    return None


def _transport_header(data: bytes, network: Network) -> tuple[int, int]:
    """Its bytes, 0 if it is unknown or cut off; where the checksum is in it."""
    start = network.transport
    size, checksum = _TRANSPORTS.get(network.protocol, (0, 0))
    if network.protocol == TCP and len(data) > start + 12:
        size = max(size, (data[start + 12] >> 4) * 4)
    return (0 if start + size > network.end else size), checksum


def _mask_transport(data: bytes, network: Network, fits: bool) -> bytes:
    start = network.transport
    size, checksum = _transport_header(data, network)
    header = bytearray(data[start : start + size])
    body = _masked(len(data) - start - size)
    # A UDP checksum of 0 says that there is none.
    wanted = network.protocol != UDP or header[checksum : checksum + 2] != b"\0\0"
    if size and fits and network.is_whole and wanted:
        header[checksum : checksum + 2] = b"\0\0"
        value = transport_checksum(
            network.protocol,
            network.addresses,
            bytes(header),
            _mask_sum(network.end - start - size),
            network.end - start,
        )
        struct.pack_into(">H", header, checksum, value)
    return data[:start] + header + body


def _masked(count: int) -> bytes:
    return bytes((MASK,)) * count


def _mask_sum(count: int) -> int:
    """What `count` MASK bytes add to a checksum."""
    return (count // 2) * (MASK << 8 | MASK) + (count % 2) * (MASK << 8)


def sum16(data: bytes) -> int:
    """Sum of big-endian 16-bit words, modulo 2**16 - 1 as the Internet checksum is."""
    return int.from_bytes(data + b"\0" * (len(data) % 2), "big") % 0xFFFF


def transport_checksum(
    protocol: int, addresses: bytes, header: bytes, payload_sum: int, size: int
) -> int:
    """The checksum of a header (its own checksum field 0) and its payload."""
    total = sum16(header) + payload_sum
    if protocol != _ICMP:
        total += sum16(addresses) + protocol + size
    # A sum that is 0 in this arithmetic stands as 0xFFFF, its complement as 0;
    # in UDP, where 0 means "none", as 0xFFFF.
    value = -total % 0xFFFF
    return 0xFFFF if value == 0 and protocol == UDP else value


def _read_link(data: bytes, link_type: int) -> tuple[int, int]:
    """Returns the type of what the link header carries and where that starts."""
    if link_type == RAW_IP:
        version = data[0] >> 4 if data else 0
        return {4: _IPV4, 6: _IPV6}.get(version, 0), 0
    start = 14 if link_type == ETHERNET else 16
    if len(data) < start:
        return 0, len(data)
    ether_type = int.from_bytes(data[start - 2 : start], "big")
    while ether_type in _VLAN and len(data) >= start + 4:
        ether_type = int.from_bytes(data[start + 2 : start + 4], "big")
        start += 4
    return ether_type, start


def _read_ipv4(data: bytes, start: int) -> Network | None:
    if len(data) < start + 20:
        return None
    size = (data[start] & 0x0F) * 4
    total, flags, protocol = struct.unpack_from(">2xH2xHxB", data, start)
    if size < 20 or total < size or len(data) < start + size:
        return None
    end = start + total
    return Network(
        protocol,
        start + size,
        min(end, len(data)),
        data[start + 12 : start + 20],
        is_first=flags & 0x1FFF == 0,
        is_whole=flags & 0x3FFF == 0 and end <= len(data),
    )


def _read_ipv6(data: bytes, start: int) -> Network | None:
    if len(data) < start + 40:
        return None
    length, protocol = struct.unpack_from(">4xHB", data, start)
    end = start + 40 + length
    at, is_first, is_fragment = start + 40, True, False
    while protocol in _V6_OPTIONS or protocol == _V6_FRAGMENT:
        if len(data) < at + 8:
            return None
        if protocol == _V6_FRAGMENT:
            is_fragment = True
            is_first = int.from_bytes(data[at + 2 : at + 4], "big") >> 3 == 0
            size = 8
        else:
            size = (data[at + 1] + 1) * 8
        protocol, at = data[at], at + size
        if not is_first:
            break
    if at > min(end, len(data)):
        return None
    return Network(
        protocol,
        at,
        min(end, len(data)),
        data[start + 8 : start + 40],
        is_first,
        is_whole=not is_fragment and end <= len(data),
    )


# --- The pcap file format, as written here ------------------------------------

_MAGIC = 0xA1B2C3D4
_LONGEST_PACKET = 262144
_FILE_HEADER = struct.Struct("=IHHiIII")
_RECORD_HEADER = struct.Struct("=IIII")
_RAW_IP_IN_FILES = 101  # files number this link type differently


def write_file_header(file: BinaryIO, link_type: int) -> None:
    number = _RAW_IP_IN_FILES if link_type == RAW_IP else link_type
    file.write(_FILE_HEADER.pack(_MAGIC, 2, 4, 0, 0, _LONGEST_PACKET, number))


def write_records(file: BinaryIO, records: Iterable[Record]) -> None:
    # libpcap can write too, but tells nobody when the disk is full.
    for seconds, microseconds, wire_bytes, data in records:
        file.write(_RECORD_HEADER.pack(seconds, microseconds, len(data), wire_bytes))
        file.write(data)
