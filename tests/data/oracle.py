"""What a search must answer, computed the slow and obvious way: a second reading of the query language over plain lists.

    documents + mapping  ->  Oracle  --query-->  set of document numbers
                                     --aggs--->  the `aggregations` member
                                     --score-->  BM25, exactly as one index without deleted documents scores

Shares no code with the server. Text: the standard analyzer as it treats ASCII and plain letters (no ideographs), and
`english` (possessives, lower case, stop words, Porter). Standard library only.
"""
import bisect, collections, datetime, fnmatch, functools, ipaddress, math, re, struct, unicodedata, zoneinfo

# ---------------------------------------------------------------- analysis

STOP = set("a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
           "this to was will with".split())
# Letters and digits; `_` and narrow spaces join anything, . ' ’ ‘ · and : join letters, . ' ’ ‘ , and ; join digits. Marks
# belong to the character before them; ideographs, Hiragana and pictographs are words of their own.
_NOT_WORD = {c: " " for c in range(0x110000) if unicodedata.category(chr(c)) == "No"}
_MARKS = "".join(c for c in map(chr, range(0x300, 0x3100)) if unicodedata.category(c)[0] == "M")
_IDEOGRAPH = "\u3041-\u3096\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_PICTOGRAPH = ("©®‼⁉™ℹ↔-↙↩↪⌚⌛⌨⏏⏩-⏳⏸-⏺Ⓜ▪▫▶◀◻-◾☀-★☇-☒☔-⚅⚐-✅✈-✒✔✖✝✡✨✳✴❄❇❌❎❓-❕❗❣-❧➕-➗➡➰➿⤴⤵⬅-⬇⬛⬜⭐⭕〰〽㊗㊙"
               "\U0001f000-\U0001f0ff\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001faff")
_LETTER = rf"(?![{_IDEOGRAPH}])[^\W\d_]"
_TOKEN = re.compile(
    rf"(?:(?![{_IDEOGRAPH}{_PICTOGRAPH}])[\w\u00ad\u2060\u202f]|(?<=[\w{_MARKS}])[{_MARKS}]|(?<=[^\W\d_])[.':’‘·](?={_LETTER})|(?<=\d)[.',;’‘⁄](?=\d))+"
    rf"|[{_IDEOGRAPH}][{_MARKS}]*|[{_PICTOGRAPH}]\ufe0f?")
_ONE = re.compile(rf"[^\W_]|[{_PICTOGRAPH}]")


def standard(text):
    out = []
    for token in _TOKEN.findall(text if text.isascii() else text.translate(_NOT_WORD)):
        if _ONE.search(token):
            # Lower case by character: a dotted capital I becomes one i.
            out += [token[i:i + 255].replace("İ", "i").lower() for i in range(0, len(token), 255)]
    return out


def english(text):
    out = []
    for token in standard(text):
        if token.endswith(("'s", "’s")):
            token = token[:-2]
        out.append(None if token in STOP else porter(token))
    return out


@functools.lru_cache(None)
def porter(w):
    """Porter's algorithm of 1980 with its author's two later changes (bli, logi)."""
    if len(w) <= 2:
        return w

    def cons(i):
        return w[i] not in "aeiou" and (w[i] != "y" or i == 0 or not cons(i - 1))

    def m(n):
        s = "".join("c" if cons(i) else "v" for i in range(n))
        return len(re.findall("v+c", s))

    def vowel(n):
        return any(not cons(i) for i in range(n))

    def double(n):
        return n >= 2 and w[n - 1] == w[n - 2] and cons(n - 1)

    def cvc(n):
        return n >= 3 and cons(n - 1) and not cons(n - 2) and cons(n - 3) and w[n - 1] not in "wxy"

    if w.endswith("sses") or w.endswith("ies"):
        w = w[:-2]
    elif w.endswith("s") and not w.endswith("ss"):
        w = w[:-1]
    cut = 0
    if w.endswith("eed"):
        if m(len(w) - 3) > 0:
            w = w[:-1]
    elif w.endswith("ed") and vowel(len(w) - 2):
        cut = 2
    elif w.endswith("ing") and vowel(len(w) - 3):
        cut = 3
    if cut:
        w = w[:-cut]
        if w.endswith(("at", "bl", "iz")):
            w += "e"
        elif double(len(w)):
            if w[-1] not in "lsz":
                w = w[:-1]
        elif m(len(w)) == 1 and cvc(len(w)):
            w += "e"
    if w.endswith("y") and vowel(len(w) - 1):
        w = w[:-1] + "i"
    two = [("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
           ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
           ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"),
           ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"), ("logi", "log")]
    three = [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")]
    for rules in (two, three):
        for end, new in rules:
            if w.endswith(end):
                if m(len(w) - len(end)) > 0:
                    w = w[:-len(end)] + new
                break
    for end in ("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
                "ate", "iti", "ous", "ive", "ize"):
        if w.endswith(end):
            n = len(w) - len(end)
            if m(n) > 1 and (end != "ion" or w[n - 1] in "st"):
                w = w[:n]
            break
    if w.endswith("e"):
        a = m(len(w) - 1)
        if a > 1 or a == 1 and not cvc(len(w) - 1):
            w = w[:-1]
    if w.endswith("ll") and m(len(w)) > 1:
        w = w[:-1]
    return w


ANALYZERS = {"standard": standard, "english": english}

# ---------------------------------------------------------------- values


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def f16(x):
    return struct.unpack("e", struct.pack("e", x))[0]


UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)


@functools.lru_cache(200_000)
def millis(text, up=False):
    """An ISO date; `up`: the last millisecond of what it leaves open."""
    if isinstance(text, (int, float)):
        return int(text)
    m = re.fullmatch(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?)?)?)?(Z|[+-]\d\d:?\d\d)?", text)
    y, mo, d, h, mi, s, frac, zone = m.groups()
    if up:
        if mo is None:
            mo = 12
        d = d or (datetime.date(int(y) + int(mo) // 12, int(mo) % 12 + 1, 1) - datetime.timedelta(1)).day
        h, mi, s = h or 23, mi or 59, s or 59
    ms = int((frac or ("999" if up else "0")).ljust(3, "0")[:3])
    t = datetime.datetime(int(y), int(mo or 1), int(d or 1), int(h or 0), int(mi or 0), int(s or 0), tzinfo=UTC)
    t = int((t - EPOCH).total_seconds()) * 1000 + ms
    if zone and zone != "Z":
        zone = zone.replace(":", "")
        t -= int(zone[0] + "1") * (int(zone[1:3]) * 60 + int(zone[3:5])) * 60_000
    return t


def percent_or_number(msm, count):
    if msm is None:
        return None
    text = str(msm)
    if text.endswith("%"):
        p = int(text[:-1])
        n = int(abs(p) * count / 100)
        return count - n if p < 0 else n
    n = int(text)
    return count + n if n < 0 else n


def flat(value):
    if value is None:
        return []
    if isinstance(value, list):
        return [x for v in value for x in flat(v)]
    return [value]


def dig(source, path):
    if isinstance(source, list):
        return [x for s in source for x in dig(s, path)]
    if not isinstance(source, dict):
        return []
    if not path:
        return []
    out = []
    for n in range(1, len(path) + 1):
        key = ".".join(path[:n])
        if key in source:
            out += flat(source[key]) if n == len(path) else dig(source[key], path[n:])
    return out


INTEGERS = ("long", "integer", "short", "byte")

# Lucene keeps a length in one byte: exact to 40, then with four significant bits.


def length_seen(n):
    if n < 40:
        return n
    x = n - 24
    bits = x.bit_length()
    shift = bits - 4
    return 24 + ((x >> shift) << shift)


class Oracle:
    def __init__(self, docs, properties, dynamic=True):
        self.ids = [d["_id"] for d in docs]
        self.sources = [{k: v for k, v in d.items() if k != "_id"} for d in docs]
        self.n = len(docs)
        self.number = {i: n for n, i in enumerate(self.ids)}
        self.fields = {}
        self._walk(properties, "")
        if dynamic and not properties:
            for s in self.sources:
                for k, v in s.items():
                    for x in flat(v):
                        t = "text" if isinstance(x, str) else "boolean" if isinstance(x, bool) else \
                            "float" if isinstance(x, float) else "long"
                        self.fields.setdefault(k, {"type": t, "path": [k]})
                        if t == "text":
                            self.fields.setdefault(k + ".keyword", {"type": "keyword", "ignore_above": 256, "path": [k]})
        self._columns, self._tokens, self._inverted, self._stats = {}, {}, {}, {}

    def _walk(self, properties, prefix):
        for name, p in properties.items():
            full = prefix + name
            if "properties" in p:
                self._walk(p["properties"], full + ".")
            else:
                self.fields[full] = {**p, "path": full.split(".")}
                for sub, q in p.get("fields", {}).items():
                    self.fields[f"{full}.{sub}"] = {**q, "path": full.split(".")}

    # -------- columns

    def column(self, field):
        """Values of every document, as doc values have them: sorted, keywords without repeats."""
        if field not in self._columns:
            f = self.fields[field]
            t, path, out = f["type"], f["path"], []
            for s in self.sources:
                values = dig(s, path)
                if t == "keyword":
                    texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
                    out.append(sorted({v for v in texts if len(v) <= f.get("ignore_above", 1 << 31)}, key=lambda v: v.encode()))
                elif t == "date":
                    out.append(sorted(millis(v) for v in values))
                elif t in INTEGERS:
                    out.append(sorted(int(v) for v in values))
                elif t == "boolean":
                    out.append(sorted(1 if v in (True, "true") else 0 for v in values))
                elif t in ("float", "half_float", "double"):
                    turn = {"float": f32, "half_float": f16, "double": float}[t]
                    out.append(sorted(turn(float(v)) for v in values))
                else:
                    out.append([str(v) for v in values])
            self._columns[field] = out
        return self._columns[field]

    def tokens(self, field):
        """Per document, per value: the tokens; None is a hole a stop word left."""
        if field not in self._tokens:
            f = self.fields[field]
            analyze = ANALYZERS[f.get("analyzer", "standard")]
            share = {}
            out = []
            for s in self.sources:
                out.append([[share.setdefault(t, t) for t in analyze(str(v))] for v in dig(s, f["path"])])
            self._tokens[field] = out
        return self._tokens[field]

    def inverted(self, field):
        if field not in self._inverted:
            out = collections.defaultdict(set)
            if self.fields[field]["type"] == "text":
                for n, values in enumerate(self.tokens(field)):
                    for v in values:
                        for t in v:
                            if t is not None:
                                out[t].add(n)
            else:
                for n, values in enumerate(self.column(field)):
                    for v in values:
                        out[v].add(n)
            self._inverted[field] = out
        return self._inverted[field]

    def analyze(self, field, text):
        f = self.fields[field]
        if f["type"] == "text":
            return ANALYZERS[f.get("search_analyzer", f.get("analyzer", "standard"))](str(text))
        return [self.term(field, text)]

    def term(self, field, value):
        t = self.fields[field]["type"]
        if t in INTEGERS:
            return int(value)
        if t == "date":
            return millis(value)
        if t == "boolean":
            return 1 if value in (True, "true") else 0
        if t in ("float", "half_float"):
            return (f32 if t == "float" else f16)(float(value))
        return str(value)

    # -------- queries: JSON -> set of document numbers

    def query(self, q):
        (kind, body), = q.items()
        return getattr(self, "q_" + kind)(body)

    def q_match_all(self, _):
        return set(range(self.n))

    def q_match_none(self, _):
        return set()

    def q_ids(self, b):
        return {self.number[i] for i in b["values"] if i in self.number}

    def q_term(self, b):
        (field, v), = b.items()
        v = v["value"] if isinstance(v, dict) else v
        if field == "_id":
            return self.q_ids({"values": [v]})
        return set(self.inverted(field).get(self.term(field, v), ()))

    def q_terms(self, b):
        (field, vs), = b.items()
        return set().union(*(self.q_term({field: v}) for v in vs))

    def q_match(self, b):
        (field, v), = b.items()
        v = v if isinstance(v, dict) else {"query": v}
        terms = [t for t in self.analyze(field, v["query"]) if t is not None]
        if not terms:
            return set(range(self.n)) if v.get("zero_terms_query") == "all" else set()
        sets = [self.inverted(field).get(t, set()) for t in terms]
        if v.get("operator", "or").lower() == "and":
            return set.intersection(*map(set, sets))
        least = max(1, percent_or_number(v.get("minimum_should_match"), len(sets)) or 1)
        count = collections.Counter(d for s in sets for d in s)
        return {d for d, c in count.items() if c >= least}

    def q_match_phrase(self, b, prefix=False):
        (field, v), = b.items()
        v = v if isinstance(v, dict) else {"query": v}
        want = self.analyze(field, v["query"])
        while want and want[0] is None:
            want = want[1:]
        last = want[-1]
        known = self.inverted(field)
        ends = {t for t in known if t.startswith(last)} if prefix else {last}
        sets = [known.get(t, set()) for t in (want[:-1] if prefix else want) if t is not None]
        docs = set.intersection(*map(set, sets)) if sets else set(range(self.n))
        every, out = self.tokens(field), set()
        for d in docs:
            for value in every[d]:
                for i in range(len(value) - len(want) + 1):
                    if value[i + len(want) - 1] in ends and all(w is None or value[i + j] == w for j, w in enumerate(want[:-1])):
                        out.add(d)
        return out

    def q_match_phrase_prefix(self, b):
        return self.q_match_phrase(b, prefix=True)

    def q_multi_match(self, b):
        rest = {k: v for k, v in b.items() if k in ("query", "operator", "minimum_should_match")}
        return set().union(*(self.q_match({f.split("^")[0]: rest}) for f in b["fields"]))

    def _expand(self, field, accept):
        return set().union(*(d for t, d in self.inverted(field).items() if accept(t)), set())

    def q_prefix(self, b):
        (field, v), = b.items()
        v = v["value"] if isinstance(v, dict) else v
        return self._expand(field, lambda t: t.startswith(v))

    def q_wildcard(self, b):
        (field, v), = b.items()
        v = v["value"] if isinstance(v, dict) else v
        r = re.compile(fnmatch.translate(v.replace("[", "[[]")))
        return self._expand(field, r.match)

    def q_regexp(self, b):
        (field, v), = b.items()
        v = v["value"] if isinstance(v, dict) else v
        return self._expand(field, re.compile(v, re.S).fullmatch)

    def q_fuzzy(self, b):
        (field, v), = b.items()
        v = v if isinstance(v, dict) else {"value": v}
        word, p = v["value"], v.get("prefix_length", 0)
        e = v.get("fuzziness", "AUTO")
        e = (0 if len(word) < 3 else 1 if len(word) < 6 else 2) if e == "AUTO" else int(e)
        near = [t for t in self.inverted(field) if abs(len(t) - len(word)) <= e and t[:p] == word[:p]]
        return self._expand(field, {t for t in near if distance(t, word) <= e}.__contains__)

    def q_exists(self, b):
        f = b["field"]
        under = [g for g in self.fields if g == f or g.startswith(f + ".") and self.fields[g]["path"][:len(f.split("."))] == f.split(".")]
        out = set()
        for g in under:
            if self.fields[g]["type"] == "text":
                out |= {n for n, v in enumerate(self.tokens(g)) if any(t is not None for x in v for t in x)}
            else:
                out |= {n for n, v in enumerate(self.column(g)) if v}
        return out

    def q_range(self, b):
        (field, r), = b.items()
        t = self.fields[field]["type"]

        def bound(op):
            v = r[op]
            if t == "date":
                if "time_zone" in r:
                    z = zone_of(r["time_zone"])
                    local = millis(v, op in ("lte", "gt"))
                    return to_utc(local, z)
                return millis(v, op in ("lte", "gt"))
            if t == "keyword":
                return str(v).encode()
            return v if not isinstance(v, str) else float(v)
        tests = []
        for op in ("gt", "gte", "lt", "lte"):
            if op in r and r[op] is not None:
                x = bound(op)
                tests.append({"gt": lambda v, x=x: v > x, "gte": lambda v, x=x: v >= x,
                              "lt": lambda v, x=x: v < x, "lte": lambda v, x=x: v <= x}[op])
        turn = (lambda v: v.encode()) if t == "keyword" else (lambda v: v)
        return {n for n, vs in enumerate(self.column(field)) if any(all(f(turn(v)) for f in tests) for v in vs)}

    def q_bool(self, b):
        lists = {k: [self.query(q) for q in (v if isinstance(v, list) else [v])]
                 for k, v in b.items() if k in ("must", "filter", "should", "must_not")}
        must = lists.get("must", []) + lists.get("filter", [])
        should = lists.get("should", [])
        out = set.intersection(*must) if must else set(range(self.n))
        least = percent_or_number(b.get("minimum_should_match"), len(should))
        if least is None:
            least = 0 if must or not should else 1
        if should and least > 0:
            count = collections.Counter(d for s in should for d in s)
            out &= {d for d, c in count.items() if c >= least}
        elif not should and least > 0 and b.get("minimum_should_match") is not None:
            out = set()
        for s in lists.get("must_not", []):
            out = out - s
        return out

    def q_constant_score(self, b):
        return self.query(b["filter"])

    def q_dis_max(self, b):
        return set().union(*(self.query(q) for q in b["queries"]))

    # -------- scores

    def stats(self, field):
        if field not in self._stats:
            if self.fields[field]["type"] == "text":
                lengths = [sum(t is not None for v in values for t in v) for values in self.tokens(field)]
                count = sum(n > 0 for n in lengths)
                self._stats[field] = (lengths, count, sum(lengths) / max(1, count))
            else:
                counts = [len(v) for v in self.column(field)]
                # Without norms every length counts as 1, but the average does not.
                self._stats[field] = (None, sum(n > 0 for n in counts), sum(counts) / max(1, sum(n > 0 for n in counts)))
        return self._stats[field]

    def bm25(self, field, term, boost=1.0):
        """Scores of the documents with a term."""
        docs = self.inverted(field).get(term, ())
        lengths, count, average = self.stats(field)
        weight = boost * 2.2 * math.log(1 + (count - len(docs) + 0.5) / (len(docs) + 0.5)) if docs else 0
        if lengths is None:
            return {d: weight / (1 + 1.2 * (0.25 + 0.75 / average)) for d in docs}
        out = {}
        for d in docs:
            tf = sum(v.count(term) for v in self.tokens(field)[d])
            out[d] = weight * tf / (tf + 1.2 * (0.25 + 0.75 * length_seen(lengths[d]) / average))
        return out

    def scores(self, q):
        """Scores of what `query` matches; for term, match, bool, constant_score, dis_max, match_all and filters."""
        (kind, b), = q.items()
        boost = b.get("boost", 1.0) if isinstance(b, dict) else 1.0
        if kind == "match_all":
            return dict.fromkeys(range(self.n), boost)
        if kind == "term":
            (field, v), = b.items()
            boost = v.get("boost", 1.0) if isinstance(v, dict) else 1.0
            v = v["value"] if isinstance(v, dict) else v
            if self.fields[field]["type"] not in ("text", "keyword"):
                return dict.fromkeys(self.query(q), boost)
            return self.bm25(field, self.term(field, v), boost)
        if kind == "match":
            (field, v), = b.items()
            v = v if isinstance(v, dict) else {"query": v}
            return self._sum([self.bm25(field, t, v.get("boost", 1.0)) for t in self.analyze(field, v["query"]) if t is not None], self.query(q))
        if kind == "bool":
            parts = [self.scores(c) for k in ("must", "should") for c in flat(b.get(k))]
            return {d: s * boost for d, s in self._sum(parts, self.query(q)).items()}
        if kind == "dis_max":
            parts, tie = [self.scores(c) for c in b["queries"]], b.get("tie_breaker", 0.0)
            out = {}
            for d in self.query(q):
                s = [p[d] for p in parts if d in p]
                out[d] = max(s) + tie * (sum(s) - max(s))
            return out
        if kind == "constant_score":
            return dict.fromkeys(self.query(q), boost)
        return dict.fromkeys(self.query(q), 1.0)

    def _sum(self, parts, docs):
        return {d: sum(p.get(d, 0.0) for p in parts) for d in docs}

    # -------- sorting

    def sort_values(self, sort, docs):
        """[(values as a response has them, document)] in order; the last key must tell all documents apart or be `_id`."""
        specs = []
        for s in sort:
            (field, o), = s.items() if isinstance(s, dict) else ((s, {}),)
            o = {"order": o} if isinstance(o, str) else o
            specs.append((field, o.get("order", "asc"), o.get("missing", "_last"), o.get("mode")))

        def one(d, spec):
            field, order, missing, mode = spec
            values = [self.ids[d]] if field == "_id" else self.column(field)[d]
            text = field == "_id" or self.fields[field]["type"] == "keyword"
            if values:
                mode = mode or ("min" if order == "asc" else "max")
                return {"min": min, "max": max, "sum": sum, "avg": lambda v: sum(v) / len(v)}[mode](values)
            if missing in ("_last", "_first"):
                low = (missing == "_first") == (order == "asc")
                if text:
                    return (None, low)
                if self.fields[field]["type"] in ("float", "double", "half_float"):
                    return -math.inf if low else math.inf
                return -2 ** 63 if low else 2 ** 63 - 1
            return missing

        def key(v):
            return (0,) if v == (None, True) else (2,) if v == (None, False) else (1, v.encode() if isinstance(v, str) else v)
        rows = [([one(d, s) for s in specs], d) for d in docs]
        for i in reversed(range(len(specs))):
            rows.sort(key=lambda r: key(r[0][i]), reverse=specs[i][1] == "desc")
        return [([None if isinstance(v, tuple) else v for v in vs], d) for vs, d in rows]

    # -------- aggregations

    def aggs(self, tree, docs):
        return {name: self.agg(a, docs) for name, a in tree.items()}

    def agg(self, a, docs):
        sub = a.get("aggs") or a.get("aggregations") or {}
        (kind, body), = ((k, v) for k, v in a.items() if k not in ("aggs", "aggregations", "meta"))
        return getattr(self, "a_" + kind)(body, docs, sub)

    def _values(self, body, docs):
        c = self.column(body["field"])
        if "missing" in body:
            m = self.term(body["field"], body["missing"])
            return [v for d in docs for v in (c[d] or [m])]
        return [v for d in docs for v in c[d]]

    def a_stats(self, body, docs, _):
        v = self._values(body, docs)
        return {"count": len(v), "min": min(v, default=None), "max": max(v, default=None),
                "avg": math.fsum(v) / len(v) if v else None, "sum": math.fsum(v)}

    def a_extended_stats(self, body, docs, _):
        v = self._values(body, docs)
        n, s, q = len(v), math.fsum(v), math.fsum(x * x for x in v)
        variance = q / n - (s / n) ** 2
        return {**self.a_stats(body, docs, _), "sum_of_squares": q, "variance": variance, "std_deviation": math.sqrt(variance)}

    def a_min(self, b, docs, _):
        return {"value": min(self._values(b, docs), default=None)}

    def a_max(self, b, docs, _):
        return {"value": max(self._values(b, docs), default=None)}

    def a_sum(self, b, docs, _):
        return {"value": math.fsum(self._values(b, docs))}

    def a_avg(self, b, docs, _):
        v = self._values(b, docs)
        return {"value": math.fsum(v) / len(v) if v else None}

    def a_value_count(self, b, docs, _):
        return {"value": len(self._values(b, docs))}

    def a_cardinality(self, b, docs, _):
        n = len(set(self._values(b, docs)))
        return {"value": n if n <= b.get("precision_threshold", 3000) / 2 else ("about", n, 0.03)}

    def a_percentiles(self, b, docs, _):
        v, out = sorted(self._values(b, docs)), {}
        for p in b["percents"]:
            out[str(float(p))] = ("rank", v, p / 100, 0.01)
        return {"values": out}

    def a_missing(self, b, docs, sub):
        c = self.column(b["field"])
        return self._bucket([d for d in docs if not c[d]], sub)

    def a_filter(self, b, docs, sub):
        s = self.query(b)
        return self._bucket([d for d in docs if d in s], sub)

    def a_global(self, b, docs, sub):
        return self._bucket(range(self.n), sub)

    def a_filters(self, b, docs, sub):
        out = {}
        for name, q in b["filters"].items():
            out[name] = self.a_filter(q, docs, sub)
        return {"buckets": out}

    def _bucket(self, docs, sub, **more):
        return {**more, "doc_count": len(docs), **self.aggs(sub, docs)}

    def _group(self, body, docs):
        c, groups = self.column(body["field"]), collections.defaultdict(list)
        miss = [self.term(body["field"], body["missing"])] if "missing" in body else []
        for d in docs:
            last = object()
            for v in c[d] or miss:
                if v != last:
                    groups[v].append(d)
                last = v
        return groups

    def a_terms(self, b, docs, sub):
        groups = self._group(b, docs)
        for side in ("include", "exclude"):
            if side in b:
                r = b[side]
                test = (lambda v: v in r) if isinstance(r, list) else re.compile(r).fullmatch
                groups = {k: g for k, g in groups.items() if bool(test(k)) == (side == "include")}
        # Terms below the minimum are dropped, not counted as others.
        groups = {k: g for k, g in groups.items() if len(g) >= b.get("min_doc_count", 1)}
        total = sum(map(len, groups.values()))
        by_key = (lambda v: ipaddress.ip_address(v)) if self.fields[b["field"]]["type"] == "ip" else \
            (lambda v: v.encode() if isinstance(v, str) else v)
        keys = sorted(groups, key=by_key)
        order = b.get("order", {"_count": "desc"})
        for o in reversed(order if isinstance(order, list) else [order]):
            (by, way), = o.items()
            if by == "_count":
                rank = lambda k: len(groups[k])
            elif by == "_key":
                rank = by_key
            else:
                name, _, metric = by.partition(".")
                found = {k: self.aggs({name: sub[name]}, groups[k])[name] for k in keys}
                rank = lambda k: found[k]["value" if "value" in found[k] else metric]if not metric else found[k][metric]
            keys.sort(key=rank, reverse=way == "desc")
        keys = keys[:b.get("size", 10)]
        out = [self._bucket(groups[k], sub, key=k) for k in keys]
        return {"sum_other_doc_count": total - sum(len(groups[k]) for k in keys), "buckets": out}

    def a_histogram(self, b, docs, sub):
        step, offset = b["interval"], b.get("offset", 0)
        c, groups = self.column(b["field"]), collections.defaultdict(list)
        miss = [b["missing"]] if "missing" in b else []
        for d in docs:
            for k in sorted({math.floor((v - offset) / step) for v in c[d] or miss}):
                groups[k].append(d)
        least = b.get("min_doc_count", 0)
        keys = range(min(groups), max(groups) + 1) if groups and least == 0 else sorted(groups)
        if "extended_bounds" in b and least == 0:
            e = b["extended_bounds"]
            low, high = math.floor((e["min"] - offset) / step), math.floor((e["max"] - offset) / step)
            keys = range(min([low, *groups]), max([high, *groups]) + 1)
        return {"buckets": [self._bucket(groups.get(k, []), sub, key=k * step + offset) for k in keys
                            if len(groups.get(k, [])) >= least]}

    def a_date_histogram(self, b, docs, sub):
        z = zone_of(b.get("time_zone", "UTC"))
        unit = b.get("calendar_interval") or b["fixed_interval"]
        fixed = "fixed_interval" in b
        c, groups = self.column(b["field"]), collections.defaultdict(list)
        floor = functools.lru_cache(None)(lambda v: round_down(v, unit, fixed, z))
        for d in docs:
            for k in sorted({floor(v) for v in c[d]}):
                groups[k].append(d)
        least = b.get("min_doc_count", 0)
        keys = sorted(groups)
        if least == 0 and keys:
            k, keys = keys[0], []
            while k <= max(groups):
                keys.append(k)
                k = next_key(k, unit, fixed, z)
        return {"buckets": [self._bucket(groups.get(k, []), sub, key=k) for k in keys if len(groups.get(k, [])) >= least]}

    def a_range(self, b, docs, sub, turn=lambda v, up=False: v):
        c, out = self.column(b["field"]), []
        for r in b["ranges"]:
            low = turn(r["from"]) if "from" in r else -math.inf
            high = turn(r["to"]) if "to" in r else math.inf
            more = {k: v for k, v in (("from", low), ("to", high)) if abs(v) != math.inf}
            out.append((low, high, self._bucket([d for d in docs if any(low <= v < high for v in c[d])], sub, **more)))
        out.sort(key=lambda x: x[:2])
        return {"buckets": [x[2] for x in out]}

    def a_date_range(self, b, docs, sub):
        return self.a_range(b, docs, sub, millis)


def zone_of(name):
    m = re.fullmatch(r"([+-])(\d\d):?(\d\d)", name)
    if m:
        return datetime.timezone(int(m[1] + "1") * datetime.timedelta(hours=int(m[2]), minutes=int(m[3])))
    return zoneinfo.ZoneInfo(name)


def to_utc(local_ms, z):
    """The instant at which a clock in `z` first shows it."""
    t = (EPOCH + datetime.timedelta(milliseconds=local_ms)).replace(tzinfo=z)
    # A time in a gap is pushed over it.
    back = t.astimezone(UTC).astimezone(z)
    if back.replace(tzinfo=None) != t.replace(tzinfo=None):
        t = back
    return int((t - EPOCH).total_seconds() * 1000) if t.utcoffset() is None else round((t.astimezone(UTC) - EPOCH).total_seconds() * 1000)


def to_local(ms, z):
    return (EPOCH + datetime.timedelta(milliseconds=ms)).astimezone(z)


FIXED = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def round_down(ms, unit, fixed, z):
    t = to_local(ms, z)
    if fixed:
        n = re.fullmatch(r"(\d+)(ms|s|m|h|d)", unit)
        step = int(n[1]) * FIXED[n[2]]
        local = ms + round(t.utcoffset().total_seconds() * 1000)
        return to_utc(local // step * step, z)
    t = t.replace(tzinfo=None, microsecond=0, second=0)
    if unit in ("hour", "1h"):
        # Hours are counted in elapsed time, so that the repeated hour of autumn is two.
        return ms - ms % 3_600_000 if to_local(ms, z).utcoffset().total_seconds() % 3600 == 0 else to_utc_naive(t.replace(minute=0), z)
    t = t.replace(minute=0, hour=0)
    if unit in ("week", "1w"):
        t -= datetime.timedelta(t.weekday())
    elif unit in ("month", "1M"):
        t = t.replace(day=1)
    elif unit in ("quarter", "1q"):
        t = t.replace(day=1, month=(t.month - 1) // 3 * 3 + 1)
    elif unit in ("year", "1y"):
        t = t.replace(day=1, month=1)
    return to_utc_naive(t, z)


def to_utc_naive(t, z):
    return to_utc(round((t - EPOCH.replace(tzinfo=None)).total_seconds() * 1000), z)


def next_key(key, unit, fixed, z):
    if fixed:
        n = re.fullmatch(r"(\d+)(ms|s|m|h|d)", unit)
        step = int(n[1]) * FIXED[n[2]]
        local = key + round(to_local(key, z).utcoffset().total_seconds() * 1000)
        return to_utc(local + step, z)
    days = {"hour": 1 / 24, "1h": 1 / 24, "day": 1, "1d": 1, "week": 7, "1w": 7, "month": 31, "1M": 31, "quarter": 92, "1q": 92,
            "year": 366, "1y": 366}[unit]
    if days < 1:
        return key + 3_600_000
    probe = key + round((days + (0.5 if days == 1 else 0)) * 86_400_000) + (3_600_000 * 3 if days > 1 else 0)
    return round_down(probe, unit, fixed, z)


def distance(a, b):
    """Optimal string alignment: edits and swaps of neighbours."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            v = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                v = min(v, rows[-2][j - 2] + 1)
            row.append(v)
        rows.append(row)
    return rows[-1][-1]


def same(want, got, path=""):
    """What differs, as text, or None. Only members that are wanted are compared; floats to one part in 1e9."""
    if isinstance(want, tuple) and want[0] == "about":
        return None if abs(got - want[1]) <= want[2] * want[1] else f"{path}: {got}, not about {want[1]}"
    if isinstance(want, tuple) and want[0] == "rank":
        _, v, p, slack = want
        near = 0.001 * max(1, abs(got))  # a digest's centroids lie beside a value that many documents share
        low, high = bisect.bisect_left(v, got - near) / len(v), bisect.bisect_right(v, got + near) / len(v)
        return None if low - slack <= p <= high + slack else f"{path}: {got} has ranks {low}..{high}, not {p}"
    if isinstance(want, dict):
        for k, v in want.items():
            if not isinstance(got, dict) or k not in got:
                return f"{path}.{k}: missing"
            if (d := same(v, got[k], f"{path}.{k}")):
                return d
        return None
    if isinstance(want, list):
        if not isinstance(got, list) or len(got) != len(want):
            return f"{path}: {len(got) if isinstance(got, list) else got} entries, not {len(want)}: {str(got)[:300]} / {str(want)[:300]}"
        return next((d for i, (w, g) in enumerate(zip(want, got)) if (d := same(w, g, f"{path}[{i}]"))), None)
    if isinstance(want, (int, float)) and isinstance(got, (int, float)) and not isinstance(got, bool):
        return None if math.isclose(want, got, rel_tol=1e-9, abs_tol=1e-9) else f"{path}: {got}, not {want}"
    return None if want == got else f"{path}: {got!r}, not {want!r}"
