"""`python3 -m unittest discover benches/peers`: how tools are scored."""

import unittest

import scores

TRUTH = [
    {"source": "a", "of_source": "", "edit": ""},
    {"source": "b", "of_source": "", "edit": ""},
    {"source": "a1", "of_source": "a", "edit": "half"},
    {"source": "a2", "of_source": "a", "edit": "mirror"},
    {"source": "b1", "of_source": "b", "edit": "half"},
]
ORDER = {row["source"]: n for n, row in enumerate(TRUTH)}


class Repeats(unittest.TestCase):
    def test_the_nearest_earlier_file_within_the_limit_is_meant(self):
        pairs = [["a1", "b", 3], ["a", "a1", 2], ["a1", "a2", 0], ["b", "b1", 9]]
        self.assertEqual(scores.repeats_said(pairs, 5, ORDER), {"a1": "a", "a2": "a1"})

    def test_of_the_equally_near_the_earliest_is_meant(self):
        self.assertEqual(scores.repeats_said([["b", "b1", 0], ["a", "b1", 0]], 1, ORDER), {"b1": "a"})

    def test_another_copy_of_the_same_photo_is_right_and_another_photo_is_wrong(self):
        found = scores.repeats({"a1": "a", "a2": "a1", "b1": "a", "b": "a"}, TRUTH)
        self.assertEqual((found["half"]["recall"], found["half"]["precision"]), (0.5, 0.5))
        self.assertEqual((found["mirror"]["recall"], found["mirror"]["precision"]), (1, 1))
        self.assertEqual((found["all"]["of"], found["all"]["wrong"]), (3, 2))
        self.assertEqual(found["originals"], {"wrong": 1, "of": 2})

    def test_a_later_file_is_no_answer(self):
        self.assertEqual(scores.repeats({"a1": "a2"}, TRUTH)["half"]["recall"], 0)


class Others(unittest.TestCase):
    def test_only_what_was_judged_counts(self):
        score = scores.flagged({"a", "b", "c"}, {"a", "d", "e"}, {"a", "b", "d"})
        self.assertEqual((score["of"], score["wrong"], score["recall"], score["precision"]), (2, 1, 0.5, 0.5))

    def test_average_precision_is_one_when_all_wanted_come_first(self):
        self.assertEqual(scores.average_precision(["x", "y", "z"], {"x", "y"}), 1)
        self.assertEqual(scores.average_precision(["z", "x"], {"x"}), 0.5)

    def test_the_best_limit_has_the_best_f1(self):
        (limit, best), curve = scores.best_limit([1, 2, 3], lambda limit: {"f1": 1 - abs(limit - 2)})
        self.assertEqual((limit, best["f1"], len(curve)), (2, 1, 3))


if __name__ == "__main__":
    unittest.main()
