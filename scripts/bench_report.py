"""What scripts/bench prints: medians, ratios, noise and the table of claims.

A record is a dictionary: `section`, `load` and `clients` name its cell, `contender` and `round` its
turn, `base` the contender that it is compared with, `beside` says whether others were measured at
the same moment; what was measured is said in bench_measure.py. Rates, latencies and CPU seconds are
those of a contender that had the machine for itself. Ratios of CPU seconds are taken from poolers
side by side, but for COPY: a pooler that is held up by another finds more bytes at each read, and
how much that helps depends on its buffers. Of the ratios of all rounds the median is shown. A claim
is judged by its worst cell, so that a mean cannot hide one.
"""

import math
from statistics import mean, median

# Section: title, heading of the rate, heading of the CPU column, is there a latency?
TITLES = {
    "transactions": ("Transactions: pgbench -S", "TPS", "CPU s/100k", True),
    "logins": ("Logins: pgbench -C -S, one SELECT each", "logins/s", "CPU s/1000", True),
    "copy": ("COPY TO STDOUT", "MB/s", "CPU s/GB", False),
    "routing": ("Routing: pgbench -S on the primary, or on a standby", "TPS", "CPU s/100k", True),
}

# Where ratios of CPU seconds come from poolers that work at the same moment.
SIDE_BY_SIDE = ("transactions", "logins", "routing")

# Section, what is claimed, the field that is judged, limit; a ratio, or else an absolute value.
CLAIMS = [
    ("transactions", "CPU per transaction / PgBouncer's", "cpu", 0.95, True),
    ("copy", "CPU per GB of COPY out / PgBouncer's", "cpu", 0.7, True),
    ("idle", "memory for an idle client, kB of RSS", "rss_kb", 1.5, False),
    ("logins", "CPU per login / PgBouncer's", "cpu", 1.0, True),
    ("routing", "CPU with routing on / off", "cpu", 1.05, True),
]


class Results:
    """All records of a run, with the questions that the report asks of them."""

    def __init__(self, records):
        self.failed = {(one["section"], one["contender"]) for one in records if "error" in one}
        self.records = [one for one in records if "error" not in one]

    def select(self, **wanted):
        return [one for one in self.records if all(one[key] == wanted[key] for key in wanted)]

    def cells(self, section):
        found = [(one["load"], one["clients"]) for one in self.select(section=section)]
        return list(dict.fromkeys(found))

    def contenders(self, section):
        return list(dict.fromkeys(one["contender"] for one in self.select(section=section)))

    def values(self, section, cell, contender, field, beside=False):
        """One value for each round in which there is one."""
        wanted = {"section": section, "load": cell[0], "clients": cell[1]}
        found = self.select(**wanted, contender=contender, beside=beside)
        return {one["round"]: one[field] for one in found if one.get(field) is not None}

    def middle(self, *where):
        values = self.values(*where)
        return median(values.values()) if values else None

    def base(self, section, contender):
        return self.select(section=section, contender=contender)[0]["base"]

    def ratios(self, section, cell, contender, field):
        """The ratio to the base in each round; none for the base itself."""
        base = self.base(section, contender)
        if base in (None, contender):
            return []
        beside = field == "cpu" and section in SIDE_BY_SIDE
        own = self.values(section, cell, contender, field, beside)
        its = self.values(section, cell, base, field, beside)
        return [own[one] / its[one] for one in own if its.get(one)]

    def ratio(self, *where):
        """The median of the rounds' ratios; None where there is none."""
        ratios = self.ratios(*where)
        return median(ratios) if ratios else None


def shown(value, digits):
    return "" if value is None else f"{value:.{digits}f}"


def table(heads, rows, names=1):
    """Lines of a table; the first `names` columns are words, the others numbers."""
    lines = [heads, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    texts = []
    for line in lines:
        cells = [
            cell.ljust(width) if i < names else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ]
        texts.append("  ".join(cells).rstrip())
    return [texts[0], "  ".join("-" * width for width in widths), *texts[1:]]


def section_table(results, section):
    """A row for each cell and contender of a section that runs a load."""
    title, rate, cpu, has_latency = TITLES[section]
    heads = ["load", "clients", "through", rate, "ms", cpu, "of a CPU"]
    heads += ["rate x", "CPU x", "in rounds"]
    rows = []
    for cell in results.cells(section):
        for contender in results.contenders(section):
            where = (section, cell, contender)
            speed = results.middle(*where, "rate")
            if speed is None:
                continue
            busy = results.middle(*where, "busy")
            row = [cell[0], str(cell[1]), contender, shown(speed, 0)]
            row += [shown(results.middle(*where, "latency_ms"), 3)]
            row += [shown(results.middle(*where, "cpu"), 3)]
            row += ["" if busy is None else f"{busy:.0%}"]
            row += [shown(results.ratio(*where, field), 3) for field in ("rate", "cpu")]
            ratios = results.ratios(*where, "cpu")
            row += [f"{min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else ""]
            rows.append(row)
    if not has_latency:
        heads, rows = heads[:4] + heads[5:], [row[:4] + row[5:] for row in rows]
    return [title, *table(heads, rows, 3)]


def idle_table(results):
    """Memory of each pooler with its idle clients."""
    heads = ["through", "clients", "RSS kB each", "PSS kB each", "RSS kB in all", "RSS x"]
    rows = []
    for contender in results.contenders("idle"):
        for cell in results.cells("idle"):
            where = ("idle", cell, contender)
            row = [contender, str(cell[1])]
            row += [shown(results.middle(*where, name), 3) for name in ("rss_kb", "pss_kb")]
            row += [shown(results.middle(*where, "rss_total_kb"), 0)]
            row += [shown(results.ratio(*where, "rss_kb"), 3)]
            rows.append(row)
    return ["Memory for idle clients that have logged in", *table(heads, rows)]


def claim_values(results, claim, contender):
    """Cell and value for each cell in which the claim can be judged."""
    section, _, field, _, is_ratio = claim
    take = results.ratio if is_ratio else results.middle
    values = [(take(section, cell, contender, field), cell) for cell in results.cells(section)]
    return [pair for pair in values if pair[0] is not None]


def judge_claims(results, labels, sections):
    """A dictionary for each claim and each of Weir's builds, for the sections that were run."""
    judged = []
    for label in labels:
        for claim in CLAIMS:
            section, text, _, limit, _ = claim
            if section not in sections:
                continue
            name = f"{label} routing on" if section == "routing" else label
            has_any = name in results.contenders(section)
            values = claim_values(results, claim, name) if has_any else []
            row = {"contender": label, "claim": text, "limit": limit, "verdict": "not measured"}
            if values:
                worst, cell = max(values)
                row["worst"], row["cell"] = worst, f"{cell[0]} {cell[1]}"
                row["typical"] = math.exp(mean(math.log(max(one, 1e-9)) for one, _ in values))
                row["verdict"] = "met" if worst <= limit else "NOT MET"
            base = results.base(section, name) if has_any else None
            if {(section, name), (section, base)} & results.failed:
                row["verdict"] = "failed"
            judged.append(row)
    return judged


def claims_table(judged):
    heads = ["of", "claim", "worst in", "typical", "worst", "at most", "verdict"]
    rows = []
    for one in judged:
        row = [one["contender"], one["claim"], one.get("cell", "")]
        row += [shown(one.get("typical"), 3), shown(one.get("worst"), 3)]
        rows.append([*row, shown(one["limit"], 2), one["verdict"]])
    return ["Claims, each judged by its worst cell", *table(heads, rows, 3)]


def spread(values):
    """(largest - smallest) / median; None where there is nothing to compare."""
    middle = median(values) if len(values) > 1 else 0
    return (max(values) - min(values)) / middle if middle > 0 else None


def spreads(results, take):
    """The spread of what `take` gives for each cell and contender."""
    found = []
    for section in TITLES:
        for cell in results.cells(section):
            for contender in results.contenders(section):
                found.append(spread(list(take(section, cell, contender))))
    return [one for one in found if one is not None]


def noise_lines(results):
    """How far the rounds lie apart, and what other processes took."""
    sources = {
        "rate": lambda *where: results.values(*where, "rate").values(),
        "CPU seconds in turns": lambda *where: results.values(*where, "cpu").values(),
        "CPU ratio": lambda *where: results.ratios(*where, "cpu"),
    }
    lines = ["Noise"]
    for name, take in sources.items():
        found = spreads(results, take)
        if found:
            lines.append(
                f"{name}: rounds lie {median(found):.1%} apart in a typical cell, "
                f"{max(found):.1%} in the worst of {len(found)}"
            )
    others = [one["others"] for one in results.records if "others" in one]
    if others:
        lines.append(
            f"others took {mean(others):.1%} of the machine on average, {max(others):.1%} at worst"
        )
    return lines if len(lines) > 1 else []


def report(facts, records, judged, notes):
    """The whole report as lines. `facts`: name and value; `notes`: skipped and failed."""
    results = Results(records)
    blocks = [[f"{name}: {value}" for name, value in facts.items()]]
    for section in TITLES:
        if results.cells(section):
            blocks.append(section_table(results, section))
    if results.cells("idle"):
        blocks.append(idle_table(results))
    blocks.append(noise_lines(results))
    blocks.append(claims_table(judged) if judged else [])
    blocks.append(notes)
    return "\n\n".join("\n".join(block) for block in blocks if block)
