"""Every boundary by its name. A new one is a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tests.fuzz import (
    answers,
    cgroups,
    grpc,
    hosts,
    kernel,
    lines,
    lists,
    lives,
    policies,
    states,
    storages,
    words,
)
from tests.fuzz.boundary import Boundary

__all__ = ("BOUNDARIES", "Row")


class Row(NamedTuple):
    fed: str  # what it is, and to whom in src/ctrwatch/
    made: Callable[[], Boundary]


BOUNDARIES: Final = {
    "record": Row("a raw record: `core/wire.py`", kernel.record),
    "fanotify": Row("a notice of fanotify's: `core/notices.py`", kernel.fanotify),
    "connector": Row("a process event: `core/notices.py`", kernel.connector),
    "path": Row("a cgroup's path: `core/cgroup.py`", kernel.path),
    "usage": Row("a cgroup's files: `core/usage.py`", cgroups.usage_files),
    "host": Row("the host's files in `/proc`: `core/hostuse.py`", hosts.host_files),
    "oci": Row("an OCI runtime's command line: `core/cmdline.py`", words.oci),
    "keepers": Row("a shim's, conmon's, LXC's, nspawn's: `core/keepers.py`", words.keepers),
    "lxc": Row("LXC's configuration: `core/lxc.py`", words.lxc_config),
    "nspawn": Row("systemd-nspawn's settings: `core/nspawn.py`", words.nspawn_settings),
    "bundle": Row("a bundle's `config.json`: `core/spec.py`", answers.bundle),
    "annotations": Row(
        "its annotations and directory: `core/annotations.py`", answers.bundle_annotations
    ),
    "docker.files": Row("Docker's files: `evidence/docker.py`", answers.docker_files),
    "docker.engine": Row("the Engine's lists: `evidence/engine.py`", answers.docker_engine),
    "docker.http": Row("the HTTP around them: `evidence/http.py`", answers.docker_http),
    "containerd": Row("containerd's messages: `evidence/images.py`", grpc.containerd),
    "containerd.content": Row("its JSON: `evidence/images.py`", grpc.containerd_content),
    "cri": Row("the CRI's messages: `evidence/cri.py`", grpc.cri_answers),
    "podman.storage": Row("Podman's storage: `evidence/podman.py`", answers.podman_storage),
    "podman.documents": Row("its documents: `evidence/podman.py`", answers.podman_documents),
    "podman.bolt": Row("its BoltDB: `evidence/bolt.py`", storages.boltdb),
    "podman.sqlite": Row("its SQLite: `evidence/libpod.py`", storages.sqlite),
    "docker.list": Row("the Engine's list of all containers: `evidence/engine.py`", lists.docker),
    "containerd.list": Row("containerd's list: `evidence/containerd.py`", lists.containerd),
    "cri.list": Row("the CRI's lists: `evidence/cri.py`", lists.cri),
    "podman.list": Row("Podman's storage as a list: `evidence/podman.py`", lists.podman_files),
    "storage.conf": Row("`storage.conf`: `evidence/storage.py`", storages.storage_conf),
    "image": Row("an image's name: `core/reference.py`", words.images_name),
    "webhook": Row("a webhook's answer: `outputs/webhook.py`", answers.webhook),
    "journal": Row("a line of a journal, played: `sensor/journal.py`", lines.journal_lines),
    "state": Row("the state file: `outputs/state.py`", states.announced),
    "config": Row("the configuration file: `core/configuration.py`", words.config),
    "policy": Row("a policy: `core/policy.py`", policies.policy),
    "options": Row("times and sockets that are set: `config.py`", words.options),
    "chain": Row("any inputs, and the laws: `core/chain.py`", lives.chain),
    "text": Row("text for a terminal: `core/text.py`", lines.text),
    "lines": Row("names in lines and tables: `core/render.py`", lines.rendered),
}
