"""The files in which a host says what it uses, as Linux 6.18 writes them, with disks of several kinds."""

from __future__ import annotations

from ctrwatch.event import Unread
from tests.unit.cgroup_files import PSI

HOST: dict[str, bytes | Unread] = {
    "stat": b"cpu  1000 50 300 90000 700 20 30 400 77 9\n"
    b"cpu0 500 25 150 45000 350 10 15 200 40 5\ncpu1 500 25 150 45000 350 10 15 200 37 4\n"
    b"intr 103941971 0 0 0\nctxt 270243755\nbtime 1795667123\nprocesses 3065670\n",
    "meminfo": b"MemTotal:       24684092 kB\nMemFree:        22284536 kB\n"
    b"MemAvailable:   24074416 kB\nBuffers:           53656 kB\n",
    "diskstats": b"   7       0 loop0 9 0 900 0 9 0 900 0 0 0 0 0 0 0 0 0 0\n"
    b" 254       0 vda 1027192 68041 2000 1021118 10147639 2532677 4000 5892490 0 740276 7355722"
    b" 5775006 288 117355712 348996 1243012 93117\n"
    b" 254       1 vda1 1 0 1990 1 1 0 3990 1 0 1 1 0 0 0 0 0 0\n"
    b" 259       0 nvme0n1 1 0 10 1 1 0 20 1 0 1 1 0 0 0 0 0 0\n"
    b" 259       1 nvme0n1p1 1 0 10 1 1 0 20 1 0 1 1 0 0 0 0 0 0\n"
    b" 252       0 dm-0 1 0 1990 1 1 0 3990 1 0 1 1 0 0 0 0 0 0\n"
    b"   9       0 md127 1 0 10 1 1 0 20 1 0 1 1 0 0 0 0 0 0\n"
    b" 253       0 zram0 0 0 5 0 0 0 5 0 0 0 0 0 0 0 0 0 0\n",
    "pressure/cpu": PSI,
    "pressure/memory": PSI,
    "pressure/io": PSI,
}
