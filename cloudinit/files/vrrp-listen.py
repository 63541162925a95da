#!/usr/bin/python3
"""Fails where another machine on the segment uses our VRRP virtual router id or our VIP.

It listens before this node uses the id for the first time, and never again: a balancer that comes
back must not stay away because of what others began meanwhile.

    vrrp-listen ADDRESS

The router id, the VIP and the peers are those of keepalived's configuration: that file follows the
profile, and what cloud-init has written once does not.
"""

import os
import socket
import struct
import subprocess
import sys
import time

# Most advertise every second; one that is silent for longer is not heard.
SECONDS = 4
VRRP = 112
GROUP = "224.0.0.18"
PAST_USE = "/var/lib/k8sha/vrid-{}"
CONFIGURATION = "/etc/keepalived/keepalived.conf"


def configuration():
    """(virtual router id, VIP, peers) as keepalived has them."""
    with open(CONFIGURATION) as file:
        words = file.read().split()

    def block(name):
        if name not in words:
            return []
        rest = words[words.index(name) + 2 :]
        return rest[: rest.index("}")]

    vrid = int(words[words.index("virtual_router_id") + 1])
    return vrid, block("virtual_ipaddress")[0].split("/")[0], block("unicast_peer")


def interface(address):
    command = ["ip", "-o", "-4", "addr", "show", "to", address + "/32"]
    words = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().split()
    if not words:
        sys.exit("k8sha vrrp-listen: no interface has " + address)
    return words[1]


def listen(address):
    """(a socket that hears every packet, a socket that keeps the group membership)"""
    name = interface(address)
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    packets.bind((name, 0x0800))
    # Switches that snoop IGMP pass the group on to members only.
    member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    request = socket.inet_aton(GROUP) + socket.inet_aton(address)
    member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    # SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC: frames that a switch floods.
    promiscuous = struct.pack("iHH8s", socket.if_nametoindex(name), 1, 0, b"")
    try:
        packets.setsockopt(263, 1, promiscuous)
    except OSError:
        pass
    return packets, member


def advertisement(packet):
    """(from, to, virtual router id, priority, addresses) of a VRRP packet, of version 2 or 3."""
    if len(packet) < 20 or packet[9] != VRRP:
        return None
    body = packet[(packet[0] & 15) * 4 :]
    if len(body) < 8 or body[0] & 15 != 1:
        return None
    fields = [body[at : at + 4] for at in range(8, 8 + 4 * body[3], 4)]
    addresses = [socket.inet_ntoa(field) for field in fields if len(field) == 4]
    return socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20]), body[1], body[2], addresses


def main(address):
    vrid, vip, peers = configuration()
    past = PAST_USE.format(vrid)
    if os.path.exists(past):
        return
    packets, _member = listen(address)
    heard, foreign = set(), {}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        packets.settimeout(max(0.01, end - time.monotonic()))
        try:
            packet = packets.recv(65535)
        except socket.timeout:
            break
        found = advertisement(packet)
        if found is None or found[0] == address:
            continue
        source, to, router, priority, addresses = found
        heard.add(router)
        ours = source in peers and router == vrid and vip in addresses
        if not ours and (router == vrid or vip in addresses):
            what = "%s advertises VRRP virtual router %d for %s (priority %d, to %s)"
            foreign[source] = what % (source, router, ", ".join(addresses), priority, to)
    if foreign:
        fix = "choose another `balancer.vrid` in the profile, or stop what uses it"
        ids = ", ".join(map(str, sorted(heard)))
        words = (vrid, vip, "; ".join(sorted(foreign.values())), fix, ids)
        sys.exit("k8sha vrrp-listen: cannot use router id %d and VIP %s: %s; %s (ids in use here: %s)" % words)
    os.makedirs(os.path.dirname(past), exist_ok=True)
    open(past, "w").close()


main(sys.argv[1])
