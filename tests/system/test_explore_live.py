"""The local page as any program of this machine may ask it, and what it refuses."""

import http.client
import signal
import threading

import numpy as np
import pytest

from explored import explored_vit
from vitral.base.errors import ConfigError
from vitral.explorer.live.address import is_own_name
from vitral.tasks.explore_live import explore_locally


@pytest.fixture(scope="module")
def page():
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    with explore_locally(explored_vit(), photo, port=0) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        yield page
        page.shutdown()


def ask(page, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


QUESTION = "/weights?image=0&layer=1&direction=to&token=3"


def test_the_page_may_load_nothing_but_what_is_its_own(page):
    answer, body = ask(page, "/")
    policy = answer.getheader("Content-Security-Policy")
    assert answer.status == 200 and b'id="payload"' in body
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "http" not in policy and "script-src 'sha256-" in policy
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    assert answer.getheader("Server").strip() == "vitral"  # not the version of Python


def test_weights_are_numbers_and_a_wrong_question_gets_words(page):
    answer, body = ask(page, QUESTION)
    rows = np.frombuffer(body, "<f4").reshape(4, 17)
    assert answer.status == 200 and np.allclose(rows.sum(axis=1), 1, atol=1e-5)
    answer, body = ask(page, "/weights?image=0&layer=1&direction=to&token=99")
    assert answer.status == 400 and b"has no query 99" in body
    for path in ("/etc/passwd", "/../pyproject.toml", "//weights", "/weights/"):
        assert ask(page, path)[0].status in (400, 404)
    assert ask(page, "/", "POST")[0].status == 501 and ask(page, "/", "HEAD")[1] == b""


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "192.168.1.4"])
def test_a_site_whose_name_points_here_is_not_answered(page, host):
    """DNS rebinding: the browser believes that this server is the site."""
    for path in ("/", QUESTION):
        answer, body = ask(page, path, Host=host)
        assert answer.status == 421 and b"payload" not in body and page.address.encode() in body


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:80", "127.0.0.1:9000"])
def test_names_of_this_machine_are_answered_also_through_a_tunnel(page, host):
    assert ask(page, "/", Host=host)[0].status == 200


def test_other_sites_may_not_ask_for_weights(page):
    assert ask(page, QUESTION, Sec_Fetch_Site="cross-site")[0].status == 403
    assert ask(page, QUESTION, Sec_Fetch_Site="same-origin")[0].status == 200
    assert ask(page, "/", Sec_Fetch_Site="cross-site")[0].status == 200  # a link to the page


def test_a_page_that_others_may_see_is_found_by_its_address():
    assert is_own_name("192.168.1.4:8765", True) and not is_own_name("192.168.1.4:8765", False)
    assert not is_own_name("evil.example", True)


def test_a_taken_port_is_refused_before_the_model_is_loaded(page):
    with pytest.raises(ConfigError, match=r"Port \d+ of 127.0.0.1 is taken by another .* --port 0 find a free one"):
        explore_locally("no model", "no image", port=page.server_port)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("0.0.0.0", "lets other machines open the page"),
        ("192.168.1.4", "--allow-remote"),
        ("::", "without a password"),
        ("my-machine", "is not an IP address"),
    ],
)
def test_an_address_that_is_not_of_this_machine_alone_is_refused(host, words):
    with pytest.raises(ConfigError, match=words):
        explore_locally("no model", "no image", host=host, port=0)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ConfigError, match="is not an address of this machine"):
        explore_locally("no model", "no image", host="192.0.2.1", port=0, allow_remote=True)


def test_the_port_is_free_again_after_a_model_that_has_no_page(tmp_path):
    with explore_locally(explored_vit(), np.zeros((16, 24, 3), np.uint8), port=0) as page:
        port = page.server_port
    with pytest.raises(Exception, match="missing"):
        explore_locally(tmp_path / "missing", np.zeros((16, 24, 3), np.uint8), port=port)
    explore_locally(explored_vit(), np.zeros((16, 24, 3), np.uint8), port=port).server_close()


def test_ctrl_c_ends_it_quietly(terminal, trained, photos):
    process = terminal.start("explore", "--live", "--port", 0, trained.folder, photos / "dark" / "0.png")
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert "explorer: http://127.0.0.1:" in line, err
    assert process.returncode == 0 and out == "" and "Traceback" not in err and "The explorer has ended." in err
