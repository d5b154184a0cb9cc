"""The gateway's metrics, as module-level objects of prometheus_client. Written down in docs/metrics.md.

With `PROMETHEUS_MULTIPROC_DIR` in the environment when this is first imported, every process writes to files of its own there and
`/metrics` sums over them; without it (tests, `mailgateway check`) the numbers stay in this process. The number of different values of
a label that may come from outside is bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from gateway.quiet import QuietRuns

MAX_LABEL_VALUES: Final = 200
OTHER: Final = "other"
COMMANDS: Final = frozenset(
    [
        "CONNECT",
        "HELO",
        "EHLO",
        "LHLO",
        "MAIL",
        "RCPT",
        "DATA",
        "CONTENT",
        "BDAT",
        "RSET",
        "NOOP",
        "VRFY",
        "EXPN",
        "HELP",
        "QUIT",
        "STARTTLS",
        "AUTH",
        "XCLIENT",
        "XFORWARD",
    ]
)
_LATE: Final[tuple[float, ...]] = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_SECONDS: Final[tuple[float, ...]] = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)

SESSIONS: Final = Counter(
    "mailgateway_sessions", "Sessions of clients since the start; probes that connect and leave are among them."
)
SESSIONS_OPEN: Final = Gauge("mailgateway_sessions_open", "Sessions at this moment.", multiprocess_mode="livesum")
TRANSACTIONS: Final = Counter("mailgateway_transactions", "Transactions by their outcome.", ["verdict"])
TRANSACTION_SECONDS = Histogram(
    "mailgateway_transaction_seconds", "From the end of the content to the reply for it.", buckets=_SECONDS
)
LOOP_LAG = Histogram(
    "mailgateway_loop_lag_seconds", "By how much the loop of a worker was late, looked at by a timer.", buckets=_LATE
)
LOOP_HELD = Histogram(
    "mailgateway_loop_held_seconds", "The part of each lag that was not spent waiting for a core of the machine.", buckets=_LATE
)
OCTETS: Final = Counter("mailgateway_content_octets", "Octets of content taken in.")
REPLIES: Final = Counter("mailgateway_replies", "Replies given to clients.", ["command", "code"])
PLUGIN_SECONDS = Histogram("mailgateway_plugin_seconds", "Time in a plugin's hook.", ["plugin", "hook"], buckets=_SECONDS)
PLUGIN_ERRORS: Final = Counter(
    "mailgateway_plugin_errors", "Faults of plugins: error, timeout, answer, circuit.", ["plugin", "kind"]
)
JOURNAL_DROPPED: Final = Counter(
    "mailgateway_journal_dropped", "Decision records that were lost: the journal was full or broken, or one could not be made."
)
DMARC_LEFT_OUT: Final = Counter("mailgateway_dmarc_left_out", "Messages that are in no DMARC report because of its limits.")
LOG_DROPPED: Final = Counter("mailgateway_log_dropped", "Log lines that were lost: the reader of the log was too slow.")
LINK_ERRORS: Final = Counter("mailgateway_link_errors", "Failures of links to a next hop.", ["next_hop"])
LINKS: Final = Gauge("mailgateway_links", "Open links to next hops.", multiprocess_mode="livesum")
LINKS_LENT: Final = Counter("mailgateway_links_lent", "Links taken for others from messages that waited for their verdict.")
SERVERS_RESTING: Final = Gauge(
    "mailgateway_next_hop_resting", "Workers for which a server rests after a failure.", ["next_hop"], multiprocess_mode="livesum"
)
DUPLICATES: Final = Counter("mailgateway_duplicates", "Recipients that may have got a message twice (a lost reply, a crash).")
DNS_QUERIES: Final = Counter(
    "mailgateway_dns_queries", "Questions of plugins and routes: static, cached, asked, stale, failed.", ["outcome"]
)
DNS_FAILURES: Final = Counter("mailgateway_dns_failures", "Questions that failed, by cause.", ["cause"])
DNS_SECONDS: Final = Histogram("mailgateway_dns_seconds", "Time of look-ups that needed a name server.", buckets=_SECONDS)
DNS_SERVER_FAILURES: Final = Counter(
    "mailgateway_dns_server_failures", "Tries that a name server did not answer, or refused.", ["server"]
)
SERVICE_QUESTIONS: Final = Counter(
    "mailgateway_service_questions",
    "Questions of plugins to their servers: answered, timeout, connect, closed, answer, busy, resting.",
    ["plugin", "server", "outcome"],
)
SERVICE_SECONDS: Final = Histogram(
    "mailgateway_service_seconds", "From a question to its answer.", ["plugin", "server"], buckets=_SECONDS
)
SERVICE_DOWN: Final = Gauge(
    "mailgateway_service_down",
    "Workers to which a plugin's server did not answer as it must, the last time that they asked.",
    ["plugin", "server"],
    multiprocess_mode="livesum",
)
SERVICE_RESTING: Final = Gauge(
    "mailgateway_service_resting",
    "Workers in which a plugin's server is not asked for a while, because it failed several times in a row.",
    ["plugin", "server"],
    multiprocess_mode="livesum",
)


class BoundedLabel:
    """Lets the first `limit` values of a label through; every later one becomes `other`."""

    def __init__(self, limit: int = MAX_LABEL_VALUES) -> None:
        self._limit = limit
        self.seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """`value`, or `other` when too many were seen before it."""
        if value not in self.seen:
            if len(self.seen) >= self._limit:
                return OTHER
            self.seen.add(value)
        return value


_FAULTS: Final = frozenset(["error", "timeout", "circuit"])
_plugin: Final = BoundedLabel()
_next_hop: Final = BoundedLabel()
_verdict: Final = BoundedLabel(30)
_name_server: Final = BoundedLabel()
_service: Final = BoundedLabel()


# Noted for every message here, counted by `flush`: one count in a shared file costs as much as ten notes. No `Counter` of
# `collections`, which overrides `del`: CPython then goes through a wrapper for each assignment too, at ten times the price.
_replies: Final[dict[str, dict[int, int]]] = {}
"""By command and code."""
_verdicts: Final[dict[str, int]] = {}
_octets: Final = [0]
_begun: Final = [0]
"""Sessions."""
_open: Final = [0]
"""By how many sessions there are more than at the last flush."""
_dns_queries: Final[defaultdict[str, int]] = defaultdict(int)
_dns_failures: Final[defaultdict[str, int]] = defaultdict(int)
_times: Final = [0] * (len(_SECONDS) + 1)
"""By bucket."""
_time: Final = [0.0]
"""Of the transactions noted, together."""
_lags: Final[defaultdict[int, int]] = defaultdict(int)
"""By bucket."""
_lag: Final[list[float]] = []
"""Of the looks noted."""
_holds: Final[defaultdict[int, int]] = defaultdict(int)
"""By bucket."""
_hold: Final[list[float]] = []
"""Of the looks noted."""
_plugin_times: Final[defaultdict[tuple[str, str, int], int]] = defaultdict(int)
"""By plugin, hook and bucket."""
_plugin_time: Final[defaultdict[tuple[str, str], float]] = defaultdict(float)
"""Of the hooks noted, by plugin and hook."""


_quiet_runs: Final[dict[tuple[str, str], QuietRuns]] = {}
"""By plugin and hook: runs that had no opinion and took no longer than the first bound."""


def quiet_runs(plugin: str, hook: str) -> QuietRuns:
    """Where the chain counts the runs of a hook that it does not tell of one by one."""
    return _quiet_runs.setdefault((_plugin(plugin), hook), QuietRuns())


def count_reply(command: str, code: int) -> None:
    """A reply to a client. Unknown verbs are counted as `other`; `CONNECT` is the greeting, `CONTENT` the final dot."""
    codes = _replies.get(command)
    if codes is None:  # since it was flushed
        codes = _replies.setdefault(command if command in COMMANDS else OTHER, {})
    codes[code] = codes.get(code, 0) + 1


def count_transaction(verdict: str) -> None:
    """A transaction has ended: delivered, held, rejected, deferred, discarded, vanished, passed (by a policy listener)."""
    noted = _verdicts.get(verdict)
    if noted is None:  # since it was flushed
        verdict = _verdict(verdict)
        noted = _verdicts.get(verdict, 0)
    _verdicts[verdict] = noted + 1


def count_session() -> None:
    """A client has connected."""
    _begun[0] += 1
    _open[0] += 1


def count_session_end() -> None:
    """A session is over."""
    _open[0] -= 1


def count_content(octets: int) -> None:
    """So many octets of content were taken in."""
    _octets[0] += octets


def count_dns_query(outcome: str) -> None:
    """A plugin or a route has asked the resolver: static, cached, asked, stale."""
    _dns_queries[outcome] += 1


def count_dns_failure(cause: str) -> None:
    """It was told that the look-up failed; `cause` is one of DnsError's."""
    _dns_queries["failed"] += 1
    _dns_failures[cause] += 1


def observe_dns(seconds: float) -> None:
    """A look-up that needed a name server took so long."""
    DNS_SECONDS.observe(seconds)


def count_name_server_failure(server: str) -> None:
    """A name server did not answer a try, or refused it."""
    DNS_SERVER_FAILURES.labels(_name_server(server)).inc()


def observe_transaction(seconds: float) -> None:
    """From the end of the content to the reply for it."""
    _times[bisect_left(_SECONDS, seconds)] += 1
    _time[0] += seconds


def observe_loop_lag(late: float, held: float) -> None:
    """A timer of a worker came so many seconds late; so many of them the worker did not wait for a core."""
    _lags[bisect_left(_LATE, late)] += 1
    _lag.append(late)
    _holds[bisect_left(_LATE, held)] += 1
    _hold.append(held)


def flush() -> None:
    """Count what was noted; a worker does so four times a second and at its end."""
    for command in tuple(_replies):
        for code, amount in _replies.pop(command).items():
            REPLIES.labels(command, str(code) if 200 <= code <= 599 else OTHER).inc(amount)
    for verdict in tuple(_verdicts):
        TRANSACTIONS.labels(verdict).inc(_verdicts.pop(verdict))
    for outcome in tuple(_dns_queries):
        DNS_QUERIES.labels(outcome).inc(_dns_queries.pop(outcome))
    for cause in tuple(_dns_failures):
        DNS_FAILURES.labels(cause).inc(_dns_failures.pop(cause))
    for noted, counted in (_octets, OCTETS), (_begun, SESSIONS), (_open, SESSIONS_OPEN):
        amount, noted[0] = noted[0], 0
        counted.inc(amount)
    _flush_times()


def _flush_times() -> None:
    """What `observe` would do for each; the library has no way to observe many at once (tests/unit/test_metrics.py)."""
    for (plugin, hook), runs in _quiet_runs.items():
        calls, seconds = runs.take()
        if calls:
            _plugin_times[plugin, hook, 0] += calls
            _plugin_time[plugin, hook] += seconds
    for plugin, hook, bucket in tuple(_plugin_times):
        PLUGIN_SECONDS.labels(plugin, hook)._buckets[bucket].inc(_plugin_times.pop((plugin, hook, bucket)))  # noqa: SLF001 - see above
    for plugin, hook in tuple(_plugin_time):
        PLUGIN_SECONDS.labels(plugin, hook)._sum.inc(_plugin_time.pop((plugin, hook)))  # noqa: SLF001 - see above
    for bucket, amount in enumerate(_times):
        if amount:
            _times[bucket] = 0
            TRANSACTION_SECONDS._buckets[bucket].inc(amount)  # noqa: SLF001 - see above
    TRANSACTION_SECONDS._sum.inc(_time[0])  # noqa: SLF001 - see above
    _time[0] = 0.0
    for bucket in tuple(_lags):
        LOOP_LAG._buckets[bucket].inc(_lags.pop(bucket))  # noqa: SLF001 - see above
    LOOP_LAG._sum.inc(sum(_lag))  # noqa: SLF001 - see above
    _lag.clear()
    for bucket in tuple(_holds):
        LOOP_HELD._buckets[bucket].inc(_holds.pop(bucket))  # noqa: SLF001 - see above
    LOOP_HELD._sum.inc(sum(_hold))  # noqa: SLF001 - see above
    _hold.clear()


def observe_run(plugin: str, hook: str, outcome: str, seconds: float) -> None:
    """A hook of a plugin took so long; `hook` is a name of a hook specification, `outcome` the trace's word. Faults are counted too."""
    name = plugin if plugin in _plugin.seen else _plugin(plugin)
    _plugin_times[name, hook, bisect_left(_SECONDS, seconds)] += 1
    _plugin_time[name, hook] += seconds
    if outcome in _FAULTS:
        count_plugin_error(plugin, outcome)


def count_plugin_error(plugin: str, kind: str) -> None:
    """A fault of a plugin; `kind` is one of our words, never text of an exception."""
    PLUGIN_ERRORS.labels(_plugin(plugin), kind).inc()


def next_hop_label(next_hop: str) -> str:
    """A server's name as a label."""
    return _next_hop(next_hop)


def count_link_error(next_hop: str) -> None:
    """A link to `next_hop` (host:port) failed."""
    LINK_ERRORS.labels(_next_hop(next_hop)).inc()


class ServiceMeter:
    """What is counted of one server of a plugin, in one worker."""

    def __init__(self, plugin: str, server: str) -> None:
        labels = (_plugin(plugin), _service(server))
        self._questions = SERVICE_QUESTIONS
        self._labels = labels
        self._seconds = SERVICE_SECONDS.labels(*labels)
        self._down = SERVICE_DOWN.labels(*labels)
        self._resting = SERVICE_RESTING.labels(*labels)
        self._is_down = False
        self._rests = False
        self._down.inc(0)  # so that a server nobody asked yet is among them
        self._resting.inc(0)

    def answered(self, seconds: float | None = None) -> None:
        """As it must, after so long."""
        self.count("answered")
        if seconds is not None:
            self._seconds.observe(seconds)
        self._set(is_down=False, rests=False)

    def failed(self, cause: str, *, rests: bool) -> None:
        """It did not; `rests`: it is not asked for a while."""
        self.count(cause)
        self._set(is_down=True, rests=rests)

    def is_there(self) -> None:
        """It answered a ping."""
        self._set(is_down=False, rests=self._rests)

    def count(self, outcome: str) -> None:
        """A question."""
        self._questions.labels(*self._labels, outcome).inc()

    def close(self) -> None:
        """This worker asks it no more."""
        self._set(is_down=False, rests=False)

    def _set(self, *, is_down: bool, rests: bool) -> None:
        if is_down != self._is_down:
            self._down.inc(1 if is_down else -1)
            self._is_down = is_down
        if rests != self._rests:
            self._resting.inc(1 if rests else -1)
            self._rests = rests
