"""Cron expressions, and the times at which independent implementations say that they come.

croniter (from PyPI) is the first. It does not know L-3 and LW, and writes 5L as L5.
The second walks the calendar day by day, with the definitions written down here. Every expression that both know must
come out the same, or else the run fails. What croniter does not know is marked `calendar`.
"""

import argparse
import calendar
import itertools
import random
import re
import sys
from datetime import date, datetime, time, timedelta

from croniter import croniter
from croniter.croniter import CroniterError

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def numbers(rng, low, high):
    """A field of numbers: a value, a range, or a step, or a list of them."""

    def item():
        first, last = sorted(rng.sample(range(low, high + 1), 2))
        step = rng.randint(1, max(1, last - first))
        open_step = rng.randint(1, max(1, high - first))
        return rng.choice([f"{first}", f"{first}", f"{first}-{last}", f"{first}-{last}/{step}", f"{first}/{open_step}"])

    if rng.random() < 0.15:
        return f"*/{rng.randint(2, (high - low) // 2)}"
    return ",".join(item() for _ in range(rng.choice([1, 1, 1, 2, 3])))


def day_of_month(rng):
    """A field of days of the month, without steps of *."""
    pick = rng.random()
    if pick < 0.45:
        return rng.choice(["*", "*", "*", "?"])
    if pick < 0.7:
        return rng.choice(
            ["L", "L", "LW", f"L-{rng.randint(1, 27)}", f"{rng.randint(1, 28)}W", f"{rng.randint(1, 31)},L"]
        )
    field = numbers(rng, 1, 31)
    return "1-31/2" if "*" in field else field


def month(rng):
    """A field of months, by number or by name."""
    pick = rng.random()
    if pick < 0.5:
        return "*"
    if pick < 0.75:
        first, last = sorted(rng.sample(range(12), 2))
        return rng.choice([MONTHS[first], f"{MONTHS[first]}-{MONTHS[last].lower()}", f"{MONTHS[first]},{MONTHS[last]}"])
    return numbers(rng, 1, 12)


def day_of_week(rng):
    """A field of days of the week, without steps of *."""
    pick = rng.random()
    day = rng.choice([*WEEKDAYS, *"01234567"])
    if pick < 0.5:
        return rng.choice(["*", "*", "?"])
    if pick < 0.65:
        return rng.choice(
            [f"{day}#{rng.randint(1, 5)}", f"{day}L", f"{day}#{rng.randint(1, 2)},{day}#4", f"{day}#1,WED#3"]
        )
    if pick < 0.8:
        first, last = sorted(rng.sample(range(1, 7), 2))
        return rng.choice(["MON-FRI", "FRI-SUN", f"{WEEKDAYS[first]}-{WEEKDAYS[last]}", f"{first}-{last + 1}"])
    return ",".join(rng.choice([*WEEKDAYS, *"01234567"]) for _ in range(rng.choice([1, 1, 2, 3])))


def days(rng):
    """Both fields of days. Where both are restricted, neither has a form that the database refuses then."""
    while True:
        dom, dow = day_of_month(rng), day_of_week(rng)
        if dom in "*?" or dow in "*?" or not re.search("[W#]|L-|[A-Z0-9]L", f"{dom} {dow}"):
            return dom, dow


def expressions(rng):
    """Endless random expressions."""
    while True:
        dom, dow = days(rng)
        yield " ".join(
            [
                rng.choice(["*", numbers(rng, 0, 59), numbers(rng, 0, 59)]),
                rng.choice(["*", numbers(rng, 0, 23), numbers(rng, 0, 23)]),
                dom,
                month(rng),
                dow,
            ]
        )


def values(field, low, high, end=None, names=()):
    """The values of a field of numbers, names, ranges and steps."""

    def value(text):
        return names.index(text.upper()) + low if text.upper() in names else int(text)

    found = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        if span in ("*", "?"):
            first, last = low, end or high
        elif "-" in span:
            first, last = (value(part) for part in span.split("-"))
            if span.upper().endswith("-SUN"):
                last = 7
        else:
            first = value(span)
            last = max(first, end or high) if step else first
        found.update(range(first, last + 1, int(step or 1)))
    return found


def matching_days(year, number, dom, dow):
    """The days of a month that the two fields of days match."""
    last = calendar.monthrange(year, number)[1]
    days = [date(year, number, day) for day in range(1, last + 1)]

    def weekday(day):
        return (day.weekday() + 1) % 7

    def nearest(target):
        working = [day for day in days if day.weekday() < 5]
        # The working day of the month that is the fewest days away; the first of two is never the case.
        return min(working, key=lambda day: abs((day - target).days))

    by_month = set()
    for item in dom.upper().split(","):
        if item == "LW":
            by_month.add(max(day for day in days if day.weekday() < 5))
        elif item.startswith("L"):
            back = int(item[2:] or 0) if len(item) > 1 else 0
            by_month.update(day for day in days if day.day == last - back)
        elif item.endswith("W"):
            if int(item[:-1]) <= last:
                by_month.add(nearest(date(year, number, int(item[:-1]))))
        else:
            wanted = values(item, 1, 31)
            by_month.update(day for day in days if day.day in wanted)
    by_week = set()
    for item in dow.upper().split(","):
        name, _, nth = item.partition("#")
        if nth or (item.endswith("L") and item[:-1] in [*WEEKDAYS, *"01234567"]):
            name = name.removesuffix("L")
            wanted = WEEKDAYS.index(name) if name in WEEKDAYS else int(name) % 7
            same = [day for day in days if weekday(day) == wanted]
            place = int(nth) - 1 if nth else -1
            if place < len(same):
                by_week.add(same[place])
        else:
            wanted = {day % 7 for day in values(item, 0, 7, end=6, names=WEEKDAYS)}
            by_week.update(day for day in days if weekday(day) in wanted)
    if dom in ("*", "?"):
        return sorted(by_week)
    if dow in ("*", "?"):
        return sorted(by_month)
    return sorted(by_month | by_week)


def by_calendar(expression, start, count):
    """The first times after a start, from the calendar; fewer if there are none for fifty years."""
    minute, hour, dom, months, dow = expression.split(" ")
    times = [time(h, m) for h in sorted(values(hour, 0, 23)) for m in sorted(values(minute, 0, 59))]
    wanted = values(months, 1, 12, names=MONTHS)
    found = (
        datetime.combine(day, at)
        for year in range(start.year, start.year + 51)
        for number in range(1, 13)
        if number in wanted and (year, number) >= (start.year, start.month)
        for day in matching_days(year, number, dom, dow)
        for at in times
        if datetime.combine(day, at) > start
    )
    return list(itertools.islice(found, count))


def by_croniter(expression, start, count):
    """The first times after a start, from croniter; None if it does not know a form of the expression."""
    fields = expression.split(" ")
    items = fields[4].upper().split(",")
    fields[4] = ",".join(f"L{item[:-1]}" if item.endswith("L") and len(item) > 1 else item for item in items)
    try:
        times = croniter(" ".join(fields), start, max_years_between_matches=51)
        return [times.get_next(datetime) for _ in range(count)]
    except CroniterError:
        return None


def main():
    """Prints lines of: expression, start, who says so, five times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    counts = {"croniter": 0, "calendar": 0}
    seen = set()
    for expression in expressions(rng):
        start = datetime(2024, 1, 1) + timedelta(minutes=rng.randrange(6 * 366 * 1440))
        if expression in seen:
            continue
        expected = by_calendar(expression, start, 5)
        if len(expected) < 5:
            continue
        known = by_croniter(expression, start, 5)
        if known not in (None, expected):
            sys.exit(f"croniter and the calendar differ on {expression!r} after {start}: {known} and {expected}")
        who = "calendar" if known is None else "croniter"
        counts[who] += 1
        seen.add(expression)
        print(expression, start, who, *expected, sep="\t")
        if len(seen) == arguments.count:
            break
    print(f"{counts['croniter']} by croniter, {counts['calendar']} by the calendar alone", file=sys.stderr)


if __name__ == "__main__":
    main()
