#!/usr/bin/env python3
"""Writes Bitstamp's recorded day as commands for `rialto replay`, together with what the exchange corrected.

The file of bare commands holds what clients sent. On that day the exchange now and then did something that no command
explains: an order sized in dollars changed, a fill was reported late. With the bare commands a price-time engine shows the
recorded best prices in 4,908 of 5,011 books; from the first unexplained change on, its book differs by that change. Here
every change that the log reports for a resting order is a command of its own, where it differs from what a first-in,
first-out book already did: a smaller rest is a reduction (R), an order that is gone is a cancel (C), a larger rest is a
cancel and a new order.

usage: bitstamp_corrected.py LOG.xz COMMANDS.csv BOOKS.csv
"""

import csv
import json
import lzma
import sys
from collections import OrderedDict, defaultdict
from decimal import Decimal

BUY, SELL = 0, 1
MARKET_LIMIT = (10**12, 0)  # the worst price a market order takes, by side
CORRECTED_IDS = 10**9  # above every recorded id
SEED_SEARCH_LINES, SEED_SEARCH_MS = 400, 5_000


def scaled(number, scale):
    return int((Decimal(str(number)) * scale).to_integral_value())


def cents(order):
    return scaled(order["price"], 100)


def satoshi(order):
    return scaled(order["amount"], 10**8)


class Book:
    """First in, first out at each price; writes down every command it is given."""

    def __init__(self):
        self.levels = ({}, {})
        self.where = {}
        self.renamed = {}
        self.rows = []

    def best(self, side):
        prices = self.levels[side]
        return None if not prices else max(prices) if side == BUY else min(prices)

    def place(self, oid, side, price, quantity, is_market=False):
        kind = "MARKET" if is_market else "LIMIT"
        self.rows.append((0, "N", oid, "BS"[side], kind, 0 if is_market else price, quantity))
        limit = MARKET_LIMIT[side] if is_market else price
        while quantity:
            best = self.best(1 - side)
            if best is None or (best > limit if side == BUY else best < limit):
                break
            queue = self.levels[1 - side][best]
            maker = next(iter(queue))
            traded = min(quantity, queue[maker])
            quantity -= traded
            queue[maker] -= traded
            if not queue[maker]:
                self.forget(maker)
        if quantity and not is_market:
            self.levels[side].setdefault(price, OrderedDict())[oid] = quantity
            self.where[oid] = (side, price)

    def forget(self, oid):
        side, price = self.where.pop(oid)
        del self.levels[side][price][oid]
        if not self.levels[side][price]:
            del self.levels[side][price]

    def cancel(self, recorded):
        oid = self.renamed.get(recorded, recorded)
        if oid in self.where:
            self.rows.append((0, "C", oid, "", "", "", ""))
            self.forget(oid)

    def correct(self, recorded, rest):
        oid = self.renamed.get(recorded, recorded)
        if oid not in self.where:
            return
        side, price = self.where[oid]
        held = self.levels[side][price][oid]
        if 0 < rest < held:
            self.rows.append((0, "R", oid, "", "", "", held - rest))
            self.levels[side][price][oid] = rest
        elif rest != held:
            self.cancel(recorded)
            self.renamed[recorded] = CORRECTED_IDS + len(self.rows)
            if rest:
                self.place(self.renamed[recorded], side, price, rest)


def seeds(events):
    """Orders that were resting before the log begins: it speaks of them though it never saw them come."""
    created = {order["id"] for _, kind, order in events if kind == "order_created"}
    found = {}
    for at, (time, kind, order) in enumerate(events):
        if kind not in ("order_changed", "order_deleted") or order["id"] in created or order["id"] in found:
            continue
        rest = satoshi(order)
        if kind == "order_changed" or rest == 0:
            # What it had before is what is left and the trade that the log tells of next.
            near = events[at : at + SEED_SEARCH_LINES]
            trade = next(((then, trade) for then, kind, trade in near if kind == "trade"), None)
            if trade and trade[0] - time < SEED_SEARCH_MS:
                rest += satoshi(trade[1])
        found[order["id"]] = (order["order_type"], cents(order), rest)
    return found


def main(log, commands, books):
    events = []
    with lzma.open(log, "rt") as lines:
        for line in lines:
            time, kind, body = line.split(" ", 2)
            events.append((int(time), kind, json.loads(body, parse_float=Decimal)))
    prices = defaultdict(set)
    for _, kind, order in events:
        if kind in ("order_created", "order_changed", "order_deleted"):
            prices[order["id"]].add(cents(order))

    book = Book()
    for oid, (side, price, rest) in sorted(seeds(events).items()):
        if rest:
            book.place(oid, side, price, rest)
    shown = []
    for time, kind, body in events:
        if kind == "order_created":
            # A market order is one whose price moves while it walks the book.
            book.place(body["id"], body["order_type"], cents(body), satoshi(body), len(prices[body["id"]]) > 1)
        elif kind == "order_deleted":
            book.cancel(body["id"])
        elif kind == "order_changed":
            book.correct(body["id"], satoshi(body))
        elif kind == "order_book":
            side = lambda name: " ".join(f"{scaled(price, 100)}:{scaled(rest, 10**8)}" for price, rest in body[name])
            shown.append((time, len(book.rows), side("bids"), side("asks")))

    with open(commands, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("ts_ms", "cmd", "oid", "side", "type", "price", "qty"), *book.rows])
    with open(books, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("ts_ms", "commands_before", "bids", "asks"), *shown])
    print(f"{len(book.rows)} commands, {len(shown)} books")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
