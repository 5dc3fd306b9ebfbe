"""Packet pipeline: reads packets, masks their payloads, writes a pcap file.

An example host of memguard. Each stage owns a ResourceManager through StageBase,
so batches shrink and buffers empty themselves when memory gets tight, and no
temporary file is left behind, whatever happens. `python -m packet_pipeline`
runs it; see --help.

    packets.py   where a packet's payload is; masking; the pcap file format
    stages.py    read -> check -> mask -> write, built on memguard.StageBase
    capture.py   ways to capture the loopback interface
    traffic.py   makes HTTP and DNS traffic on 127.0.0.1 and captures it
    generate.py  makes captures of any size, and knows how they look when masked
    host.py      the command line, live rounds, reports, verification

Capture files are read by libpcap (PyPI: pcapy-ng, a maintained binding whose wheels
bring libpcap along): it knows every pcap variant, refuses broken files with a clear
reason, bounds the size of a packet, and costs 1 MB of memory. scapy costs 30 MB, and
dpkt, which has seen no release since 2022, returns a cut-off packet as if it was whole.
"""
