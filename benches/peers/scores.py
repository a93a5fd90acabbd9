"""Holds what tools say against the truth. Pure."""


def repeats_said(pairs, limit, order):
    """What pairs within a distance mean to a stream: each file is the repeat of the nearest earlier file it is paired
    with, and of the earliest of the equally near. `order` is the place of each file."""
    best = {}
    for a, b, distance in pairs:
        if distance <= limit and a != b:
            later, earlier = (a, b) if order[a] > order[b] else (b, a)
            best[later] = min(best.get(later, (distance, order[earlier], earlier)), (distance, order[earlier], earlier))
    return {later: earlier for later, (_, _, earlier) in best.items()}


def repeats(said, truth):
    """Scores by edit, and `all`. `said` names the earlier file that each repeats; `truth` is in the order of arrival.

    Right is an earlier file made from the same photo. Precision of an edit is of its copies that were called repeats; of
    `all`, of every file that was, originals too."""
    place = {row["source"]: n for n, row in enumerate(truth)}
    photo = {row["source"]: row["of_source"] or row["source"] for row in truth}
    counts = {}
    for row in truth:
        name, of = row["source"], said.get(row["source"])
        right = of is not None and place[of] < place[name] and photo[of] == photo[name]
        for kind in [row["edit"] or "original", "all"]:
            count = counts.setdefault(kind, {"of": 0, "right": 0, "wrong": 0})
            count["of"] += bool(row["edit"]) or kind == "original"
            count["right"] += right
            count["wrong"] += of is not None and not right
    original = counts.pop("original", {"of": 0, "wrong": 0})
    return {kind: rates(**count) for kind, count in counts.items()} | {
        "originals": {"wrong": original["wrong"], "of": original["of"]}
    }


def flagged(said, wanted, judged):
    """Of the files `judged`, those `said` against those `wanted`."""
    said, wanted = said & judged, wanted & judged
    return rates(len(wanted), len(said & wanted), len(said - wanted))


def rates(of, right, wrong):
    recall, precision = right / max(of, 1), right / max(right + wrong, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"recall": round(recall, 4), "precision": round(precision, 4), "f1": round(f1, 4), "of": of, "wrong": wrong}


def average_precision(ranked, wanted):
    """Mean precision at each of `wanted`, most suspicious first."""
    hits, total = 0, 0.0
    for n, name in enumerate(ranked, 1):
        if name in wanted:
            hits += 1
            total += hits / n
    return round(total / max(len(wanted & set(ranked)), 1), 4)


def best_limit(limits, score):
    """The limit with the best F1, in hindsight; and the score at each."""
    curve = [(limit, score(limit)) for limit in limits]
    return max(curve, key=lambda point: point[1]["f1"]), curve
