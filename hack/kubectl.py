"""kubectl for the chart's tests against a real API server.

In: arguments, an object, whom to be. Out: what the API server answered. Must not: judge the answer.
"""

import json
import subprocess


def run(*arguments, user=None, given=None):
    """Runs kubectl, as another user if one is named; `given` is an object for its standard input."""
    identity = ["--as", user] if user else []
    text = json.dumps(given) if given is not None else None
    return subprocess.run(["kubectl", *identity, *arguments], input=text, capture_output=True, text=True, check=False)


def must(*arguments, given=None):
    """Runs kubectl as the cluster's admin; an error ends the test."""
    done = run(*arguments, given=given)
    if done.returncode:
        raise SystemExit(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def refusal(done):
    """What an admission policy said, or the whole error; None when the API server agreed."""
    if done.returncode == 0:
        return None
    return done.stderr.strip().rpartition("denied request: ")[2]
