"""Image names: as people write them, in full, and what is no name."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.reference import TEXT_MAX, bare_digest, is_image_id, normalise, parse

HEX = "0a1b2c3d4e5f6789" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("written", "full"),
    [
        pytest.param("nginx", "docker.io/library/nginx:latest", id="official"),
        pytest.param("nginx:1.27", "docker.io/library/nginx:1.27", id="tag"),
        pytest.param("docker.io/nginx", "docker.io/library/nginx:latest", id="registry-official"),
        pytest.param("index.docker.io/a/b:1", "docker.io/a/b:1", id="old-registry"),
        pytest.param("bitnami/redis", "docker.io/bitnami/redis:latest", id="user"),
        pytest.param("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1", id="other-registry"),
        pytest.param("quay.io/busybox", "quay.io/busybox:latest", id="other-registry-one-part"),
        pytest.param("localhost/pause:1", "localhost/pause:1", id="localhost"),
        pytest.param("localhost:5000/a/b", "localhost:5000/a/b:latest", id="port-and-no-tag"),
        pytest.param("localhost:5000", "docker.io/library/localhost:5000", id="tag-like-a-port"),
        pytest.param("[::1]:5000/a:1", "[::1]:5000/a:1", id="ipv6"),
        pytest.param("MyHost/a", "MyHost/a:latest", id="capital-is-a-host"),
        pytest.param("a" * 237, f"docker.io/library/{'a' * 237}:latest", id="longest"),
        pytest.param("a-b/c__d.e--f", "docker.io/a-b/c__d.e--f:latest", id="separators"),
        pytest.param(f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", id="digest"),
        pytest.param(
            f"localhost:5000/a/b:1@{DIGEST}", f"localhost:5000/a/b:1@{DIGEST}", id="tag-and-digest"
        ),
        pytest.param(f"a@sha512:{HEX}{HEX}", f"docker.io/library/a@sha512:{HEX}{HEX}", id="sha512"),
    ],
)
def test_in_full(written: str, full: str) -> None:
    assert normalise(written) == full
    assert normalise(full) == full


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(DIGEST, id="image-id"),
        pytest.param(HEX, id="image-id-without-algorithm"),
        pytest.param("Nginx", id="capital"),
        pytest.param("a/B", id="capital-after-the-slash"),
        pytest.param("nginx:", id="empty-tag"),
        pytest.param("nginx:-1", id="tag-begins-with-a-dash"),
        pytest.param(f"nginx:{'a' * 129}", id="tag-one-too-long"),
        pytest.param("nginx@", id="empty-digest"),
        pytest.param(f"nginx@{DIGEST[:-1]}", id="digest-one-digit-short"),
        pytest.param(f"nginx@{DIGEST}0", id="digest-one-digit-long"),
        pytest.param(f"nginx@{DIGEST.upper()}", id="digest-upper-case"),
        pytest.param(f"nginx@md5:{HEX[:32]}", id="digest-weak"),
        pytest.param("a//b", id="empty-part"),
        pytest.param("/a", id="begins-with-a-slash"),
        pytest.param("a/", id="ends-with-a-slash"),
        pytest.param("a___b", id="three-underscores"),
        pytest.param("a..b", id="two-dots"),
        pytest.param("-a", id="begins-with-a-dash"),
        pytest.param("a.b-/c", id="host-ends-with-a-dash"),
        pytest.param("a b", id="space"),
        pytest.param("nginx\n", id="newline"),
        pytest.param("nginx:1\n", id="newline-after-the-tag"),
        pytest.param("é", id="no-ascii"),
        pytest.param("scratch\x1b[2J", id="escape-sequence"),
        pytest.param("a" * 238, id="name-one-too-long"),
    ],
)
def test_no_name(text: str) -> None:
    assert parse(text) is None
    assert normalise(text) == text


def test_what_is_no_name_is_bounded() -> None:
    assert normalise("A" * 100_000) == "A" * TEXT_MAX


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        pytest.param(f"localhost:5000/a/b@{DIGEST}", DIGEST, id="repository"),
        pytest.param(DIGEST, DIGEST, id="bare"),
        pytest.param(HEX, "", id="no-algorithm"),
        pytest.param(f"a@{DIGEST}\n", "", id="newline"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_bare_digest(text: str, digest: str) -> None:
    assert bare_digest(text) == digest


def test_image_id() -> None:
    assert is_image_id(DIGEST)
    assert is_image_id(HEX)
    assert not is_image_id(f"nginx@{DIGEST}")
    assert not is_image_id(HEX[:12])


@given(st.one_of(st.text(max_size=60), st.text("aB0.-_:/@[]", max_size=40)))
def test_in_full_twice_is_in_full(text: str) -> None:
    full = normalise(text)

    assert normalise(full) == full
    parsed = parse(text)
    if parsed is not None:
        assert parse(str(parsed)) == parsed
        assert "/" in full
        assert parse(full) == parsed._replace(tag=parsed.tag or ("" if parsed.digest else "latest"))
