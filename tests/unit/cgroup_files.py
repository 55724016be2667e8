"""The files of one container's cgroups, as kernels write them: on a hybrid host, and on cgroup v2."""

from __future__ import annotations

from ctrwatch.event import Unread

PSI = b"some avg10=12.50 avg60=3.00 avg300=0.70 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
# A busybox under `docker run -m 64m --pids-limit 20` on a hybrid host, Linux 6.18.
HYBRID: dict[tuple[int, str], bytes | Unread] = {
    (1, "cpuacct.usage"): b"1234567890\n",
    (1, "cpuacct.stat"): b"user 100\nsystem 23\n",
    (
        1,
        "cpu.stat",
    ): b"nr_periods 50\nnr_throttled 7\nthrottled_time 2500000000\nnr_bursts 0\nburst_time 0\n",
    (1, "memory.usage_in_bytes"): b"9437184\n",
    (1, "memory.max_usage_in_bytes"): b"12582912\n",
    (1, "memory.limit_in_bytes"): b"67108864\n",
    (1, "memory.oom_control"): b"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    (
        1,
        "memory.stat",
    ): b"cache 8192\ninactive_file 1\nhierarchical_memory_limit 67108864\ntotal_inactive_file 1048576\ntotal_active_file 0\n",
    (
        1,
        "blkio.throttle.io_service_bytes_recursive",
    ): b"254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 12288\n254:0 Async 0\n254:0 Discard 0\n254:0 Total 12288\n7:1 Read 1024\n7:1 Write 0\n7:1 Total 1024\nTotal 13312\n",
    (
        1,
        "blkio.throttle.io_serviced_recursive",
    ): b"254:0 Read 1\n254:0 Write 2\n254:0 Total 3\n7:1 Read 1\n7:1 Write 0\nTotal 4\n",
    (1, "pids.current"): b"3\n",
    (1, "pids.max"): b"20\n",
    (1, "pids.events"): b"max 5\n",
    (2, "cpu.stat"): b"usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n",
    (2, "memory.current"): Unread.NOT_OFFERED,
    (2, "cpu.pressure"): PSI,
    (2, "memory.pressure"): PSI,
    (2, "io.pressure"): PSI,
}
# The same under cgroup v2, Linux 6.1.
V2: dict[tuple[int, str], bytes | Unread] = {
    (
        2,
        "cpu.stat",
    ): b"usage_usec 1234567\nuser_usec 1000000\nsystem_usec 230000\nnr_periods 50\nnr_throttled 7\nthrottled_usec 2500000\nnr_bursts 0\nburst_usec 0\n",
    (2, "memory.current"): b"9437184\n",
    (2, "memory.peak"): b"12582912\n",
    (2, "memory.max"): b"67108864\n",
    (
        2,
        "memory.events",
    ): b"low 0\nhigh 0\nmax 41\noom 2\noom_kill 2\noom_group_kill 0\n",
    (2, "memory.stat"): b"anon 4096\ninactive_anon 1\nactive_anon 0\ninactive_file 1048576\n",
    (
        2,
        "io.stat",
    ): b"254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:1 rbytes=1024 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n253:0 \n",
    (2, "pids.current"): b"3\n",
    (2, "pids.max"): b"20\n",
    (2, "pids.events"): b"max 5\n",
    (2, "cpu.pressure"): PSI,
    (2, "memory.pressure"): PSI,
    (2, "io.pressure"): PSI,
}
