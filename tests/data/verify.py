#!/usr/bin/env python3
"""Proves a server on real documents: loads them through `_bulk` and compares answers with those of oracle.py.

    verify.py --data FOLDER --url http://127.0.0.1:9200 [SET ...]                   a server that runs
    verify.py --data FOLDER --url http://127.0.0.1:9330 --binary target/release/ringdex --dir /tmp/x [SET ...]

FOLDER has one folder a set with docs.ndjson.gz (a line a document, `_id` apart from the source) and maybe mapping.json.
Without SETs, all of them. With --binary the server is started on an empty data folder, and killed (SIGKILL) and started again
on the way. Every set goes through these stages, each asking every question again:

    1 shard:  load | kill and restart | force merge | clean restart
    5 shards: load with 1 in 10 documents first written wrong, and some deleted | kill and restart | force merge

A difference is printed as SET/STAGE/CASE; exit code 1 if there was one. Standard library only. Not part of `cargo test`:
the documents are not in the repository. Takes minutes, most of them for the oracle.
"""
import argparse, gzip, http.client, json, math, os, random, shutil, signal, subprocess, sys, time, urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oracle import Oracle, millis, same

# ---------------------------------------------------------------- cases


def q(name, query, means=None):
    """A query; `means` says the same in words the oracle knows."""
    return ("query", name, query, means or query)


def s(name, query, sort, frm=0, size=50):
    return ("sort", name, query, sort, frm, size)


def page(name, query, sort, size=1000):
    """Everything, by search_after; `sort` ends with what tells all documents apart."""
    return ("page", name, query, sort, size)


def score(name, query):
    return ("score", name, query)


def source(name, query, spec, expect):
    return ("source", name, query, spec, expect)


def a(name, aggs, query=None):
    return ("aggs", name, aggs, query or {"match_all": {}})


def match(field, text, **more):
    return {"match": {field: {"query": text, **more}}}


def term(field, value):
    return {"term": {field: value}}


def phrase(field, text):
    return {"match_phrase": {field: text}}


def rng(field, **r):
    return {"range": {field: r}}


def both(*must, **more):
    return {"bool": {"must": list(must), **more}}


def any_of(*should, **more):
    return {"bool": {"should": list(should), **more}}


def exists(field):
    return {"exists": {"field": field}}


def qs(text, field=None, **more):
    return {"query_string": {"query": text, **({"default_field": field} if field else {}), **more}}


ALL = {"match_all": {}}
BIG = {"shard_size": 100_000}


def text_cases(field, common, word, pair, three, pre, wild, typo, number, low, high):
    """The cases that any set with a text and a number can be asked."""
    w1, w2 = pair.split()
    return [
        q("term on text", term(field, word)),
        q("terms on text", {"terms": {field: [word, w1, "nosuchword"]}}),
        q("match or", match(field, pair)),
        q("match and", match(field, pair, operator="and")),
        q("match 2 of 3", match(field, f"{pair} {word}", minimum_should_match=2)),
        q("match 67%", match(field, f"{pair} {word}", minimum_should_match="67%")),
        q("match -1", match(field, f"{pair} {word}", minimum_should_match=-1)),
        q("match nothing", match(field, "nosuchword")),
        q("phrase", phrase(field, pair)),
        q("phrase of three", phrase(field, three)),
        q("phrase reversed", phrase(field, f"{w2} {w1}")),
        q("phrase prefix", {"match_phrase_prefix": {field: {"query": f"{w1} {w2[:2]}", "max_expansions": 10000}}}),
        q("prefix on text", {"prefix": {field: pre}}),
        q("wildcard on text", {"wildcard": {field: wild}}),
        q("regexp on text", {"regexp": {field: f"{pre}[a-m].*"}}),
        q("fuzzy", {"fuzzy": {field: {"value": typo, "fuzziness": 1, "max_expansions": 1000}}}),
        q("fuzzy 2 after a prefix", {"fuzzy": {field: {"value": typo, "fuzziness": 2, "prefix_length": 1, "max_expansions": 1000}}}),
        q("range closed", rng(number, gte=low, lte=high)),
        q("range open", rng(number, gt=low, lt=high)),
        q("range below", rng(number, lt=low)),
        q("range above", rng(number, gte=high)),
        q("exists", exists(field)),
        q("exists number", exists(number)),
        q("not exists", {"bool": {"must_not": exists(field)}}),
        q("bool all parts", both(match(field, common), filter=[rng(number, gte=low)], must_not=[term(field, word)])),
        q("bool should 2 of 3", any_of(term(field, w1), term(field, w2), rng(number, gte=low, lte=high), minimum_should_match=2)),
        q("bool should -1", any_of(term(field, w1), term(field, w2), rng(number, gte=low, lte=high), minimum_should_match=-1)),
        q("bool should 50%", any_of(term(field, w1), term(field, w2), term(field, word), exists(number), minimum_should_match="50%")),
        q("bool should beside filter", {"bool": {"filter": rng(number, gte=low, lte=high), "should": [term(field, w1)]}}),
        q("bool in bool", both(any_of(term(field, w1), term(field, w2)), {"bool": {"must_not": [term(field, word)]}})),
        q("only must_not", {"bool": {"must_not": [rng(number, gte=low), term(field, w1)]}}),
        q("dis_max", {"dis_max": {"queries": [term(field, w1), phrase(field, pair)]}}),
        q("query_string or", qs(f"{w1} OR {word}", field), any_of(match(field, w1), match(field, word))),
        q("query_string and not", qs(f"{w1} AND NOT {w2}", field), both(match(field, w1), must_not=[match(field, w2)])),
        q("query_string plus minus", qs(f"+{w1} -{w2} {word}", field), both(match(field, w1), must_not=[match(field, w2)])),
        q("query_string phrase", qs(f'{field}:"{pair}"'), phrase(field, pair)),
        q("query_string range", qs(f"{number}:[{low} TO {high}}}"), rng(number, gte=low, lt=high)),
        q("query_string compare", qs(f"{number}:>={high}"), rng(number, gte=high)),
        q("query_string exists", qs(f"_exists_:{field}"), exists(field)),
        q("query_string prefix", qs(f"{pre}*", field), {"prefix": {field: pre}}),
        q("query_string group", qs(f"({w1} {word}) AND {number}:<{high}", field),
          both(any_of(match(field, w1), match(field, word)), rng(number, lt=high))),
        q("query_string default and", qs(pair, field, default_operator="AND"), match(field, pair, operator="and")),
        q("constant_score", {"constant_score": {"filter": term(field, w1)}}),
        score("term", term(field, word)),
        score("match or", match(field, f"{pair} {common}")),
        score("match with boost", match(field, pair, boost=2.5)),
        score("bool", {"bool": {"must": [match(field, w1)], "should": [match(field, f"{w2} {word}"), {"constant_score": {"filter": exists(number), "boost": 1.5}}]}}),
        score("dis_max", {"dis_max": {"queries": [match(field, w1), match(field, f"{w2} {word}")], "tie_breaker": 0.3}}),
        a("stats of a search", {"x": {"stats": {"field": number}}, "n": {"value_count": {"field": number}}}, match(field, pair)),
        a("missing", {"x": {"missing": {"field": number}}}),
    ]


def cases_geonames():
    return text_cases("name", "la", "old", "san jose", "san jose de", "mont", "st*ton", "pariz", "population", 1000, 50000) + [
        q("keyword", term("country_code.raw", "CH")),
        q("keywords", {"terms": {"country_code.raw": ["CH", "AT", "LI"]}}),
        q("prefix on keyword", {"prefix": {"timezone.raw": "America/Arg"}}),
        q("wildcard on keyword", {"wildcard": {"timezone.raw": "A*/*a?o"}}),
        q("range on keyword", rng("country_code.raw", gte="DE", lt="ES")),
        q("other scripts", {"wildcard": {"name.raw": "Zü*"}}),
        q("ids", {"ids": {"values": ["12", "38", "no"]}}),
        s("by population", ALL, [{"population": "desc"}, {"geonameid": "asc"}], 0, 100),
        s("by population, page 3", term("country_code.raw", "FR"), [{"population": "desc"}, {"geonameid": "asc"}], 200, 100),
        s("by missing keyword first", ALL, [{"admin1_code.raw": {"order": "asc", "missing": "_first"}}, {"geonameid": "desc"}], 0, 200),
        s("by missing keyword last", term("country_code.raw", "MO"), [{"feature_code.raw": {"order": "desc", "missing": "_last"}}, {"geonameid": "asc"}], 0, 1000),
        page("all of Germany", term("country_code.raw", "DE"), [{"population": "desc"}, {"geonameid": "asc"}]),
        page("everything", ALL, [{"geonameid": "asc"}], 10000),
        page("by name", rng("population", gte=100000), [{"name.raw": "asc"}, {"geonameid": "asc"}], 700),
        source("includes", term("country_code.raw", "LI"), ["name", "pop*"], lambda d: {k: v for k, v in d.items() if k == "name" or k.startswith("pop")}),
        source("excludes", term("country_code.raw", "LI"), {"excludes": ["*name*", "location"]}, lambda d: {k: v for k, v in d.items() if "name" not in k and k != "location"}),
        a("countries", {"c": {"terms": {"field": "country_code.raw", "size": 300, **BIG}}}),
        a("top countries", {"c": {"terms": {"field": "country_code.raw", "size": 10, **BIG}}}),
        a("countries by key", {"c": {"terms": {"field": "country_code.raw", "size": 20, "order": {"_key": "desc"}, **BIG}}}),
        a("countries by people", {"c": {"terms": {"field": "country_code.raw", "size": 15, "order": {"p": "desc"}, **BIG},
                                        "aggs": {"p": {"sum": {"field": "population"}}, "s": {"stats": {"field": "population"}}}}}),
        a("country > zone > stats", {"c": {"terms": {"field": "country_code.raw", "size": 8, **BIG}, "aggs": {
            "z": {"terms": {"field": "timezone.raw", "size": 5, **BIG}, "aggs": {"s": {"extended_stats": {"field": "population"}}}}}}}),
        a("population steps", {"h": {"histogram": {"field": "population", "interval": 1000000}}}),
        a("population steps, filled only", {"h": {"histogram": {"field": "population", "interval": 50000, "offset": 7, "min_doc_count": 1},
                                                  "aggs": {"m": {"max": {"field": "geonameid"}}}}}),
        a("population ranges", {"r": {"range": {"field": "population", "ranges": [{"to": 1000}, {"from": 1000, "to": 10000}, {"from": 5000, "to": 1e6}, {"from": 1e6}]},
                                      "aggs": {"c": {"cardinality": {"field": "country_code.raw"}}}}}),
        a("cardinality", {"c": {"cardinality": {"field": "country_code.raw"}}, "n": {"cardinality": {"field": "name.raw"}},
                          "p": {"cardinality": {"field": "geonameid"}}, "t": {"cardinality": {"field": "timezone.raw"}}}),
        a("missing code", {"m": {"missing": {"field": "feature_code.raw"}, "aggs": {"c": {"terms": {"field": "country_code.raw", "size": 5, **BIG}}}}}),
        a("terms with missing", {"m": {"terms": {"field": "feature_code.raw", "missing": "none", "size": 50, **BIG}}}),
        a("filters", {"f": {"filters": {"filters": {"big": rng("population", gte=1000000), "ch": term("country_code.raw", "CH")}},
                            "aggs": {"p": {"avg": {"field": "population"}}}}}),
        a("filter and global", {"f": {"filter": rng("population", gte=100000), "aggs": {"n": {"value_count": {"field": "geonameid"}}}},
                                "g": {"global": {}, "aggs": {"s": {"sum": {"field": "geonameid"}}}}}, term("country_code.raw", "IN")),
        a("include", {"c": {"terms": {"field": "country_code.raw", "include": "[A-C].*", "exclude": ["AF", "CN"], "size": 100, **BIG}}}),
        a("percentiles", {"p": {"percentiles": {"field": "population", "percents": [1, 50, 95, 99]}}}),
        a("sum of ids", {"s": {"sum": {"field": "geonameid"}}}),
    ]


def cases_movies():
    return text_cases("title", "the", "night", "new york", "the man who", "ki", "w*man", "hause", "year", 1930, 1975) + [
        q("array of keywords", term("genres", "Western")),
        q("two genres", both(term("genres", "Comedy"), term("genres", "Romance"))),
        q("cast", match("cast", "charlie chaplin", operator="and")),
        q("cast phrase", phrase("cast", "Buster Keaton")),
        q("phrase does not cross values", phrase("cast", "Keaton Buster")),
        q("cast keyword", term("cast.keyword", "Charlie Chaplin")),
        q("english", match("extract", "running horses")),
        q("english and", match("extract", "directed films starring", operator="and")),
        q("english phrase over stop words", phrase("extract", "the story of a man")),
        q("english terms are stems", term("extract", "hors")),
        q("multi_match", {"multi_match": {"query": "dracula", "fields": ["title^3", "extract", "cast"]}}),
        q("no genre", {"bool": {"must_not": exists("genres")}}),
        s("by year", match("title", "love"), [{"year": "desc"}, {"_id": "asc"}], 0, 300),
        s("by genre, missing first", rng("year", lt=1910), [{"genres": {"order": "asc", "missing": "_first"}}, {"_id": "asc"}], 20, 200),
        s("by genre desc", rng("year", lt=1910), [{"genres": {"order": "desc"}}, {"_id": "desc"}], 0, 500),
        page("everything", ALL, [{"year": "asc"}, {"_id": "asc"}], 5000),
        page("by title", term("genres", "War"), [{"title.keyword": "asc"}, {"_id": "asc"}], 333),
        source("includes", term("cast.keyword", "Buster Keaton"), {"includes": ["title", "c*"], "excludes": ["cast"]}, lambda d: {"title": d["title"]}),
        a("genres", {"g": {"terms": {"field": "genres", "size": 100, **BIG}}}),
        a("genres by key", {"g": {"terms": {"field": "genres", "size": 7, "order": {"_key": "asc"}, **BIG}}}),
        a("genre > decade", {"g": {"terms": {"field": "genres", "size": 5, **BIG}, "aggs": {"d": {"histogram": {"field": "year", "interval": 10}}}}}),
        a("decade > cast", {"d": {"histogram": {"field": "year", "interval": 10}, "aggs": {"c": {"terms": {"field": "cast.keyword", "size": 3, **BIG}}}}}),
        a("year stats", {"s": {"extended_stats": {"field": "year"}}, "n": {"cardinality": {"field": "year"}}}, term("genres", "Horror")),
        a("years numeric terms", {"y": {"terms": {"field": "year", "size": 10, **BIG}}}),
        a("years by average", {"y": {"terms": {"field": "genres", "size": 10, "order": [{"x": "asc"}, {"_key": "asc"}], **BIG}, "aggs": {"x": {"avg": {"field": "year"}}}}}),
        a("missing genre", {"m": {"missing": {"field": "genres"}, "aggs": {"y": {"min": {"field": "year"}}}}}),
        a("eras", {"r": {"range": {"field": "year", "ranges": [{"to": 1927}, {"from": 1927, "to": 1950}, {"from": 1950}]}, "aggs": {"g": {"terms": {"field": "genres", "size": 3, **BIG}}}}}),
        a("cardinality", {"c": {"cardinality": {"field": "cast.keyword"}}, "g": {"cardinality": {"field": "genres"}}}),
        score("english", match("extract", "horses running wild")),
        score("keyword", any_of(term("genres", "Western"), term("genres", "Musical"))),
    ]


def cases_debian():
    return text_cases("summary", "librari", "python", "develop file", "client librari", "ser", "lib*y", "servr", "installed_kb", 50, 2000) + [
        q("description", match("description", "fast web server", operator="and")),
        q("description phrase", phrase("description", "This package contains the development files")),
        q("keyword", term("section", "games")),
        q("prefix on keyword", {"prefix": {"package": "libx11"}}),
        q("wildcard on keyword", {"wildcard": {"package": "lib*-perl"}}),
        q("regexp on keyword", {"regexp": {"package": "python3-[a-c][a-z]{2,4}"}}),
        q("array", term("depends", "libc6")),
        q("long range", rng("size", gte=100_000_000)),
        q("no homepage", {"bool": {"must_not": exists("homepage"), "filter": term("section", "net")}}),
        q("id", {"term": {"_id": "0ad"}}),
        s("largest", ALL, [{"size": "desc"}, {"package": "asc"}], 0, 200),
        s("no homepage first", term("section", "math"), [{"homepage": {"order": "asc", "missing": "_first"}}, {"package": "asc"}], 0, 1000),
        page("everything", ALL, [{"package": "asc"}], 10000),
        page("perl by size", term("section", "perl"), [{"installed_kb": "asc"}, {"package": "desc"}], 500),
        source("excludes", term("section", "games"), {"excludes": ["d*", "tags"]}, lambda d: {k: v for k, v in d.items() if k[0] != "d" and k != "tags"}),
        a("sections", {"s": {"terms": {"field": "section", "size": 100, **BIG}, "aggs": {"kb": {"stats": {"field": "installed_kb"}}}}}),
        a("tags", {"t": {"terms": {"field": "tags", "size": 40, **BIG}}}),
        a("depends", {"t": {"terms": {"field": "depends", "size": 25, **BIG}, "aggs": {"s": {"terms": {"field": "section", "size": 2, **BIG}}}}}),
        a("sections by size", {"s": {"terms": {"field": "section", "size": 10, "order": {"x": "desc"}, **BIG}, "aggs": {"x": {"max": {"field": "size"}}}}}),
        a("maintainers", {"c": {"cardinality": {"field": "maintainer"}}, "t": {"terms": {"field": "maintainer", "size": 20, **BIG}}}),
        a("missing tags", {"m": {"missing": {"field": "tags"}, "aggs": {"s": {"terms": {"field": "section", "size": 4, **BIG}}}}}),
        a("sizes", {"h": {"histogram": {"field": "installed_kb", "interval": 250000, "min_doc_count": 1}}}),
        a("of a search", {"s": {"terms": {"field": "section", "size": 10, **BIG}}}, match("description", "game")),
        score("description", match("description", "simple text editor")),
    ]


def cases_wordnet():
    return text_cases("definition", "of", "animal", "genus of", "the act of", "electr", "*phobia", "watr", "_seq", 0, 0)[:17] + [
        q("words", match("words", "dog")),
        q("words phrase", phrase("words", "hot dog")),
        q("words keyword", term("words.keyword", "hot dog")),
        q("examples", phrase("examples", "he was")),
        q("no examples", {"bool": {"must_not": exists("examples"), "filter": term("pos", "verb")}}),
        q("hypernyms", {"terms": {"hypernyms": ["n00001740", "n00002137"]}}),
        q("bool", both(match("definition", "small"), filter=[term("lexname", "noun.animal")], must_not=[match("definition", "bird")])),
        q("should 2", any_of(match("definition", "large"), term("pos", "noun"), exists("examples"), minimum_should_match=2)),
        q("query_string", qs("definition:(large OR big) AND pos:noun AND NOT words:dog"),
          both(any_of(match("definition", "large"), match("definition", "big")), term("pos", "noun"), must_not=[match("words", "dog")])),
        q("query_string wildcard", qs("words:aard*"), {"prefix": {"words": "aard"}}),
        s("by lexname", match("words", "run"), [{"lexname": "asc"}, {"_id": "asc"}], 5, 100),
        s("by hypernym, missing last", match("words", "run"), [{"hypernyms": {"order": "desc", "missing": "_last"}}, {"_id": "asc"}], 0, 200),
        page("everything", ALL, [{"_id": "asc"}], 10000),
        page("verbs", term("pos", "verb"), [{"lexname": "desc"}, {"_id": "asc"}], 2000),
        source("one", match("words", "aardvark"), "words", lambda d: {"words": d["words"]}),
        source("none", match("words", "aardvark"), False, lambda d: None),
        a("pos", {"p": {"terms": {"field": "pos", **BIG}, "aggs": {"l": {"terms": {"field": "lexname", "size": 3, **BIG}}}}}),
        a("lexnames", {"l": {"terms": {"field": "lexname", "size": 60, "order": {"_key": "asc"}, **BIG}}}),
        a("hypernyms", {"h": {"terms": {"field": "hypernyms", "size": 20, **BIG}}}),
        a("words", {"w": {"terms": {"field": "words.keyword", "size": 30, **BIG}}}),
        a("cardinality", {"c": {"cardinality": {"field": "lexname"}}, "h": {"cardinality": {"field": "hypernyms"}}, "w": {"cardinality": {"field": "words.keyword"}}}),
        a("missing", {"m": {"missing": {"field": "hypernyms"}, "aggs": {"p": {"terms": {"field": "pos", **BIG}}}}}),
        a("filter", {"f": {"filter": exists("examples"), "aggs": {"p": {"terms": {"field": "lexname", "size": 5, **BIG}}}}}),
        score("definition", match("definition", "a small dog of great strength")),
        score("words", match("words", "bank run")),
        score("term", term("definition", "genus")),
    ]


def cases_flights():
    ts = "@timestamp"
    day = {"s": {"stats": {"field": "dep_delay"}}}
    return [
        q("carrier", term("carrier", "UA")),
        q("terms", {"terms": {"dest": ["IAH", "MIA", "XXX"]}}),
        q("delay", rng("dep_delay", gte=120)),
        q("early", rng("dep_delay", lt=-15)),
        q("cancelled", {"bool": {"must_not": exists("dep_time")}}),
        q("no tail number", {"bool": {"must_not": exists("tailnum")}}),
        q("a day", rng(ts, gte="2013-03-10", lt="2013-03-11")),
        q("until a day", rng(ts, lte="2013-01-03")),
        q("after a day", rng(ts, gt="2013-12-30")),
        q("hours", rng(ts, gte="2013-07-04T12:00:00Z", lte="2013-07-04T18:00:00Z")),
        q("a day in New York", rng(ts, gte="2013-03-10", lt="2013-03-11", time_zone="America/New_York")),
        q("a day with an offset", rng(ts, gte="2013-03-10", lte="2013-03-10", time_zone="-05:00")),
        q("month math", rng(ts, gte="2013-02-14||/M", lt="2013-02-14||+1M/M"), rng(ts, gte="2013-02-01", lt="2013-03-01")),
        q("millis", rng(ts, gte=millis("2013-05-05"), lt=millis("2013-05-06"), format="epoch_millis")),
        q("prefix", {"prefix": {"tailnum": "N14"}}),
        q("wildcard", {"wildcard": {"tailnum": "N?1*AA"}}),
        q("regexp", {"regexp": {"tailnum": "N[0-9]{3}(UA|AA)"}}),
        q("bool", both(term("origin", "JFK"), filter=[rng("distance", gte=2000)], must_not=[term("carrier", "B6")])),
        q("should 2 of 4", any_of(term("origin", "LGA"), term("carrier", "DL"), rng("dep_delay", gt=60), term("dest", "ATL"), minimum_should_match=3)),
        q("query_string", qs("origin:JFK AND dest:(LAX OR SFO) AND dep_delay:>200"),
          both(term("origin", "JFK"), {"terms": {"dest": ["LAX", "SFO"]}}, rng("dep_delay", gt=200))),
        q("query_string date", qs("@timestamp:[2013-02-01 TO 2013-02-02] AND carrier:US"), both(rng(ts, gte="2013-02-01", lte="2013-02-02"), term("carrier", "US"))),
        q("term on number", term("flight", 1545)),
        q("term on date", term(ts, "2013-01-01T10:00:00Z")),
        s("worst delays", ALL, [{"dep_delay": "desc"}, {"_id": "asc"}], 0, 100),
        s("missing first", term("carrier", "OO"), [{"arr_delay": {"order": "asc", "missing": "_first"}}, {"_id": "asc"}], 0, 100),
        s("missing last", term("carrier", "OO"), [{"arr_delay": {"order": "desc", "missing": "_last"}}, {"_id": "asc"}], 0, 100),
        s("missing is a number", term("carrier", "OO"), [{"arr_delay": {"order": "asc", "missing": 0}}, {"_id": "asc"}], 0, 100),
        s("keyword missing first", rng(ts, lt="2013-01-10"), [{"tailnum": {"order": "asc", "missing": "_first"}}, {"_id": "asc"}], 0, 100),
        s("by date", term("dest", "LGA"), [{ts: "asc"}, {"_id": "asc"}], 0, 10),
        s("deep", ALL, [{"distance": "desc"}, {ts: "asc"}, {"_id": "asc"}], 9000, 500),
        page("a carrier", term("carrier", "HA"), [{ts: "desc"}, {"_id": "asc"}], 50),
        page("everything", ALL, [{"air_time": {"order": "desc", "missing": "_last"}}, {"_id": "asc"}], 10000),
        page("delays, missing first", term("origin", "LGA"), [{"dep_delay": {"order": "asc", "missing": "_first"}}, {"_id": "desc"}], 10000),
        source("includes", term("carrier", "OO"), ["@*", "dest"], lambda d: {k: d[k] for k in ("@timestamp", "dest")}),
        a("carriers", {"c": {"terms": {"field": "carrier", "size": 30, **BIG}, "aggs": {"d": {"stats": {"field": "arr_delay"}}}}}),
        a("carriers by delay", {"c": {"terms": {"field": "carrier", "size": 5, "order": {"d": "desc"}, **BIG}, "aggs": {"d": {"avg": {"field": "arr_delay"}}}}}),
        a("carriers by stats.max", {"c": {"terms": {"field": "carrier", "size": 6, "order": {"d.max": "asc"}, **BIG}, "aggs": {"d": {"stats": {"field": "arr_delay"}}}}}),
        a("origin > dest > carrier", {"o": {"terms": {"field": "origin", **BIG}, "aggs": {"d": {"terms": {"field": "dest", "size": 6, **BIG}, "aggs": {
            "c": {"terms": {"field": "carrier", "size": 3, **BIG}, "aggs": {"a": {"avg": {"field": "air_time"}}}}}}}}}),
        a("months", {"m": {"date_histogram": {"field": ts, "calendar_interval": "month"}, "aggs": day}}),
        a("months in New York", {"m": {"date_histogram": {"field": ts, "calendar_interval": "month", "time_zone": "America/New_York"}, "aggs": day}}),
        a("weeks", {"m": {"date_histogram": {"field": ts, "calendar_interval": "week"}}}),
        a("weeks in Kolkata", {"m": {"date_histogram": {"field": ts, "calendar_interval": "1w", "time_zone": "Asia/Kolkata"}}}),
        a("days", {"m": {"date_histogram": {"field": ts, "calendar_interval": "day"}, "aggs": {"c": {"cardinality": {"field": "tailnum"}}}}}),
        a("days in New York", {"m": {"date_histogram": {"field": ts, "calendar_interval": "day", "time_zone": "America/New_York"}}}),
        a("days with an offset", {"m": {"date_histogram": {"field": ts, "calendar_interval": "day", "time_zone": "-05:00"}}}),
        a("hours in New York", {"m": {"date_histogram": {"field": ts, "calendar_interval": "hour", "time_zone": "America/New_York"}}}, rng(ts, gte="2013-11-02", lt="2013-11-05")),
        a("12 hours in New York", {"m": {"date_histogram": {"field": ts, "fixed_interval": "12h", "time_zone": "America/New_York"}}}, rng(ts, gte="2013-07-02", lt="2013-07-15")),
        a("90 minutes", {"m": {"date_histogram": {"field": ts, "fixed_interval": "90m"}}}, rng(ts, gte="2013-03-09", lt="2013-03-12")),
        a("quarters, years", {"q": {"date_histogram": {"field": ts, "calendar_interval": "quarter"}}, "y": {"date_histogram": {"field": ts, "calendar_interval": "year"}}}),
        a("month > carrier", {"m": {"date_histogram": {"field": ts, "calendar_interval": "month"}, "aggs": {"c": {"terms": {"field": "carrier", "size": 3, **BIG}}}}}),
        a("few days", {"m": {"date_histogram": {"field": ts, "calendar_interval": "day", "min_doc_count": 1}}}, term("carrier", "OO")),
        a("days with holes", {"m": {"date_histogram": {"field": ts, "calendar_interval": "day"}}}, term("carrier", "OO")),
        a("delays", {"h": {"histogram": {"field": "dep_delay", "interval": 15}, "aggs": {"x": {"max": {"field": "distance"}}}}}),
        a("delays with offset", {"h": {"histogram": {"field": "dep_delay", "interval": 60, "offset": 10, "min_doc_count": 1}}}),
        a("delays with missing", {"h": {"histogram": {"field": "dep_delay", "interval": 100, "missing": -1000, "min_doc_count": 1}}}),
        a("bounds", {"h": {"histogram": {"field": "dep_delay", "interval": 500, "extended_bounds": {"min": -2000, "max": 3000}}}}),
        a("ranges", {"r": {"range": {"field": "dep_delay", "ranges": [{"to": 0}, {"from": 0, "to": 60}, {"from": 60}]}, "aggs": {"c": {"terms": {"field": "carrier", "size": 3, **BIG}}}}}),
        a("date ranges", {"r": {"date_range": {"field": ts, "ranges": [{"to": "2013-02-01"}, {"from": "2013-02-01", "to": "2013-06-01"}, {"from": "2013-06-01"}]},
                                "aggs": {"s": {"sum": {"field": "distance"}}}}}),
        a("missing", {"m": {"missing": {"field": "dep_time"}, "aggs": {"o": {"terms": {"field": "origin", **BIG}}}}}),
        a("all metrics", {"a": {"extended_stats": {"field": "distance"}}, "b": {"avg": {"field": "air_time"}}, "c": {"sum": {"field": "flight"}},
                          "d": {"value_count": {"field": "tailnum"}}, "e": {"min": {"field": "arr_delay"}}, "f": {"max": {"field": ts}},
                          "g": {"avg": {"field": "arr_delay", "missing": 0}}}),
        a("cardinality", {"a": {"cardinality": {"field": "carrier"}}, "b": {"cardinality": {"field": "tailnum"}}, "c": {"cardinality": {"field": "flight"}},
                          "d": {"cardinality": {"field": ts}}, "e": {"cardinality": {"field": "distance"}}}),
        a("percentiles", {"p": {"percentiles": {"field": "arr_delay", "percents": [5, 25, 50, 75, 95, 99.9]}}}),
        a("numeric terms", {"t": {"terms": {"field": "flight", "size": 20, **BIG}}, "d": {"terms": {"field": "distance", "order": {"_key": "asc"}, "size": 12, **BIG}}}),
        a("many tail numbers", {"t": {"terms": {"field": "tailnum", "size": 4100, **BIG}}}),
        a("tail numbers min 500", {"t": {"terms": {"field": "tailnum", "size": 100, "min_doc_count": 400, **BIG}}}),
        a("filter > terms", {"f": {"filter": rng("dep_delay", gte=180), "aggs": {"d": {"terms": {"field": "dest", "size": 7, **BIG}}}}}),
        score("keywords", any_of(term("carrier", "HA"), term("dest", "HNL"))),
    ]


def cases_logs():
    return text_cases("message", "get", "googlebot", "http 1.1", "mozilla 5.0 compatible", "goo", "go*bot", "mozila", "size", 1000, 50000) + [
        q("status", term("status", 404)),
        q("errors", rng("status", gte=400)),
        q("ip", term("clientip", "66.249.73.135")),
        q("request keyword", term("request.keyword", "/favicon.ico")),
        q("request prefix", {"prefix": {"request.keyword": "/blog/"}}),
        q("request", match("request", "kibana")),
        q("time", rng("@timestamp", gte="2015-05-18T00:00:00Z", lt="2015-05-18T12:00:00Z")),
        q("no size", {"bool": {"must_not": exists("size")}}),
        s("largest", ALL, [{"size": {"order": "desc"}}, {"_id": "asc"}], 0, 100),
        page("everything", ALL, [{"@timestamp": "asc"}, {"_id": "asc"}], 777),
        a("status", {"s": {"terms": {"field": "status", **BIG}, "aggs": {"b": {"sum": {"field": "size"}}}}}),
        a("hours", {"h": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1h"}, "aggs": {"s": {"terms": {"field": "status", **BIG}}}}}),
        a("days in Tokyo", {"h": {"date_histogram": {"field": "@timestamp", "calendar_interval": "day", "time_zone": "Asia/Tokyo"}}}),
        a("pages", {"p": {"terms": {"field": "request.keyword", "size": 20, **BIG}, "aggs": {"c": {"cardinality": {"field": "clientip"}}}}}),
        a("referrers", {"r": {"terms": {"field": "referrer", "size": 12, **BIG}}, "m": {"missing": {"field": "referrer"}}}),
        a("bytes", {"b": {"stats": {"field": "size"}}, "h": {"histogram": {"field": "size", "interval": 1000000, "min_doc_count": 1}}}),
        a("ips", {"c": {"terms": {"field": "clientip", "size": 15, **BIG}}}),
    ]


def cases_bible():
    return text_cases("text", "the", "jerusalem", "holy ghost", "the lord god", "bless", "ri*eous", "moces", "chapter", 10, 50) + [
        q("book", term("book", "Ge")),
        q("long phrase", phrase("text", "in the beginning God created the heaven and the earth")),
        q("repeated word", phrase("text", "holy, holy, holy")),
        q("id with a space", {"ids": {"values": ["Ge 1:1", "Jn 3:16"]}}),
        s("in order", term("book", "Ge"), [{"chapter": "asc"}, {"verse": "asc"}, {"_id": "asc"}], 0, 2000),
        page("everything", ALL, [{"chapter": "desc"}, {"verse": "asc"}, {"_id": "asc"}], 4000),
        a("books", {"b": {"terms": {"field": "book", "size": 100, **BIG}, "aggs": {"c": {"cardinality": {"field": "chapter"}}, "m": {"max": {"field": "verse"}}}}}),
        a("books of a search", {"b": {"terms": {"field": "book", "size": 10, **BIG}}}, match("text", "grace")),
        a("chapters", {"h": {"histogram": {"field": "chapter", "interval": 25}}}),
        a("by key", {"b": {"terms": {"field": "book", "size": 5, "order": {"_key": "asc"}, **BIG}}}),
        a("filters", {"f": {"filters": {"filters": {"god": match("text", "god"), "lord": match("text", "lord"), "both": match("text", "god lord", operator="and")}}}}),
        a("ranges", {"r": {"range": {"field": "verse", "ranges": [{"to": 10}, {"from": 10, "to": 20}, {"from": 100}]}}}),
        score("verses", match("text", "the lord is my shepherd")),
    ]


def cases_accounts():
    return text_cases("address", "street", "avenue", "holmes lane", "880 holmes lane", "br", "*ton", "stret", "balance", 10000, 40000) + [
        q("keyword", term("state.keyword", "IL")),
        q("text", match("state", "il")),
        q("email", term("email.keyword", "amberduke@pyrami.com")),
        s("richest", ALL, [{"balance": "desc"}, {"account_number": "asc"}], 0, 100),
        page("everything", ALL, [{"age": "asc"}, {"account_number": "asc"}], 90),
        a("states", {"s": {"terms": {"field": "state.keyword", "size": 60, **BIG}, "aggs": {"b": {"avg": {"field": "balance"}}}}}),
        a("states by balance", {"s": {"terms": {"field": "state.keyword", "size": 5, "order": {"b": "desc"}, **BIG}, "aggs": {"b": {"avg": {"field": "balance"}}}}}),
        a("ages", {"r": {"range": {"field": "age", "ranges": [{"from": 20, "to": 30}, {"from": 30, "to": 40}, {"from": 40}]}, "aggs": {
            "g": {"terms": {"field": "gender.keyword", **BIG}, "aggs": {"b": {"stats": {"field": "balance"}}}}}}}),
        a("balances", {"h": {"histogram": {"field": "balance", "interval": 5000}}}),
    ]


def cases_sample_flights():
    return [
        q("boolean", term("Cancelled", True)),
        q("keyword", term("OriginWeather", "Heavy Fog")),
        q("float range", rng("AvgTicketPrice", gte=500.5, lt=600)),
        q("dates", rng("timestamp", gte="2018-01-10", lte="2018-01-11")),
        q("bool", both(term("FlightDelay", True), filter=[rng("FlightDelayMin", gt=100)], must_not=[term("Cancelled", True)])),
        q("exists geo", exists("Carrier")),
        q("query_string", qs("OriginCountry:(US OR CA) AND FlightDelay:true"), both({"terms": {"OriginCountry": ["US", "CA"]}}, term("FlightDelay", True))),
        q("wildcard", {"wildcard": {"DestCityName": "*burg"}}),
        q("float term", term("DistanceMiles", 0)),
        s("price", ALL, [{"AvgTicketPrice": "desc"}, {"_id": "asc"}], 0, 200),
        s("boolean first", ALL, [{"Cancelled": "desc"}, {"timestamp": "asc"}, {"_id": "asc"}], 0, 200),
        page("everything", ALL, [{"DistanceKilometers": "asc"}, {"_id": "asc"}], 1000),
        a("carriers", {"c": {"terms": {"field": "Carrier", **BIG}, "aggs": {"p": {"stats": {"field": "AvgTicketPrice"}}, "t": {"extended_stats": {"field": "FlightTimeMin"}}}}}),
        a("booleans", {"c": {"terms": {"field": "Cancelled", **BIG}}, "d": {"terms": {"field": "FlightDelay", **BIG}, "aggs": {"m": {"sum": {"field": "FlightDelayMin"}}}}}),
        a("weather", {"w": {"terms": {"field": "OriginWeather", "order": {"p": "desc"}, **BIG}, "aggs": {"p": {"avg": {"field": "AvgTicketPrice"}}}}}),
        a("days", {"d": {"date_histogram": {"field": "timestamp", "calendar_interval": "day", "time_zone": "Europe/Berlin"}, "aggs": {"p": {"max": {"field": "AvgTicketPrice"}}}}}),
        a("prices", {"h": {"histogram": {"field": "AvgTicketPrice", "interval": 99.5}}}),
        a("distance", {"r": {"range": {"field": "DistanceMiles", "ranges": [{"to": 0.5}, {"from": 0.5, "to": 1000.25}, {"from": 1000.25}]}}}),
        a("percentiles", {"p": {"percentiles": {"field": "AvgTicketPrice", "percents": [1, 50, 99]}}}),
    ]


def cases_ecommerce():
    return [
        q("category", match("category", "men's clothing", operator="and")),
        q("category keyword", term("category.keyword", "Women's Shoes")),
        q("object in array", match("products.product_name", "red shirts")),
        q("object number", rng("products.base_price", gte=100)),
        q("half_float", rng("products.price", gte=24.99, lte=25)) if False else q("quantity", rng("total_quantity", gte=3)),
        q("dates", rng("order_date", gte="2016-12-20", lt="2016-12-22")),
        q("sub object", term("geoip.city_name", "New York")),
        q("exists object", exists("geoip.region_name")),
        q("name", phrase("customer_full_name", "Eddie Underwood")),
        q("bool", both(term("customer_gender", "FEMALE"), filter=[rng("taxful_total_price", gt=150)], must_not=[term("day_of_week", "Monday")])),
        s("by date", ALL, [{"order_date": "desc"}, {"_id": "asc"}], 0, 100),
        s("by lowest price", ALL, [{"products.product_id": {"order": "asc"}}, {"_id": "asc"}], 0, 100),
        s("by highest price", ALL, [{"products.product_id": {"order": "desc", "mode": "max"}}, {"_id": "asc"}], 0, 100),
        s("by sum", ALL, [{"products.product_id": {"order": "desc", "mode": "sum"}}, {"_id": "asc"}], 0, 100),
        page("everything", ALL, [{"order_id": "asc"}, {"_id": "asc"}], 450),
        source("nested paths", term("geoip.city_name", "Cairo"), ["products.sku", "geoip.*_name"],
               lambda d: {"products": [{"sku": p["sku"]} for p in d["products"]], "geoip": {k: v for k, v in d["geoip"].items() if k.endswith("_name")}}),
        a("weekdays", {"d": {"terms": {"field": "day_of_week", **BIG}, "aggs": {"s": {"sum": {"field": "taxful_total_price"}}}}}),
        a("makers", {"m": {"terms": {"field": "manufacturer.keyword", "size": 30, **BIG}}}),
        a("product prices", {"s": {"stats": {"field": "products.base_price"}}, "n": {"value_count": {"field": "products.sku"}}}),
        a("days", {"d": {"date_histogram": {"field": "order_date", "calendar_interval": "day"}, "aggs": {"q": {"sum": {"field": "total_quantity"}}}}}),
        a("weeks in Cairo", {"d": {"date_histogram": {"field": "order_date", "calendar_interval": "week", "time_zone": "Africa/Cairo"}}}),
        a("cities", {"c": {"terms": {"field": "geoip.city_name", "size": 20, "missing": "nowhere", **BIG}}}),
    ]


SETS = {"accounts": cases_accounts, "sample-ecommerce": cases_ecommerce, "sample-flights": cases_sample_flights, "apache-logs": cases_logs,
        "bible-kjv": cases_bible, "movies": cases_movies, "debian-packages": cases_debian, "wordnet": cases_wordnet,
        "geonames": cases_geonames, "nycflights13": cases_flights}

# ---------------------------------------------------------------- server


class Client:
    def __init__(self, url):
        self.host = urllib.parse.urlsplit(url)
        self.connection = None

    def call(self, method, path, body=None, kind="application/json"):
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.host.hostname, self.host.port, timeout=600)
        try:
            self.connection.request(method, path, data, {"content-type": kind})
            answer = self.connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection = None
            raise
        return answer.status, json.loads(raw) if raw.startswith((b"{", b"[")) else raw.decode()

    def ok(self, method, path, body=None, kind="application/json"):
        status, answer = self.call(method, path, body, kind)
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {json.dumps(answer)[:2000]}")
        return answer


class Server:
    """Our own server process, or none."""

    def __init__(self, args):
        self.args, self.process = args, None
        if args.binary:
            shutil.rmtree(args.dir, ignore_errors=True)

    def start(self):
        if not self.args.binary:
            return
        host = urllib.parse.urlsplit(self.args.url).netloc
        command = [self.args.binary, "--log", "warn", "serve", "--data", self.args.dir, "--http", host] + (self.args.serve or "").split()
        self.process = subprocess.Popen(command)
        client, deadline = Client(self.args.url), time.time() + 120
        while time.time() < deadline:
            try:
                if client.call("GET", "/_cluster/health?wait_for_status=green&timeout=60s")[0] == 200:
                    return
            except OSError:
                assert self.process.poll() is None, "the server ended"
                time.sleep(0.05)
        raise SystemExit("the server does not come up")

    def memory(self):
        if not self.process:
            return ""
        lines = open(f"/proc/{self.process.pid}/status").read().splitlines()
        return ", ".join(f"{l.split()[0]} {int(l.split()[1]) >> 10} MiB" for l in lines if l.startswith(("VmHWM", "VmRSS")))

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            code = self.process.wait(120)
            if how == signal.SIGTERM and code != 0:
                print(f"FAILED: exit code {code}")
            self.process = None


# ---------------------------------------------------------------- checks


class Verifier:
    def __init__(self, args, server):
        self.args, self.server, self.failed, self.asked = args, server, 0, 0

    def fail(self, what):
        self.failed += 1
        print("FAILED", what[:1200], flush=True)

    def mapping(self, name):
        for path in (f"{name}/mapping.json", f"workloads/{name}/mapping.json"):
            path = os.path.join(self.args.data, path)
            if os.path.exists(path):
                return json.load(open(path))
        return {}

    def run(self, name):
        path = os.path.join(self.args.data, name, "docs.ndjson.gz")
        docs = [json.loads(l) for l in gzip.open(path, "rt", encoding="utf-8")]
        mapping = self.mapping(name)
        properties = mapping.get("mappings", {}).get("properties", {})
        oracle = Oracle(docs, properties)
        cases = SETS[name]()
        t = time.time()
        expected = [self.expect(oracle, c) for c in cases]
        print(f"== {name}: {len(docs)} documents, {len(cases)} cases, expected answers in {time.time() - t:.0f} s", flush=True)
        for shards in self.args.shards:
            index = f"{name}-{shards}"
            dirty = shards > 1
            self.client = Client(self.args.url)
            self.client.call("DELETE", f"/{index}")
            settings = {k: v for k, v in mapping.get("settings", {}).items() if "number_of" not in k}
            body = {**mapping, "settings": {**settings, "number_of_shards": shards, "number_of_replicas": 0}}
            self.client.ok("PUT", f"/{index}", body)
            self.load(index, docs, dirty)
            stages = [("loaded", None)]
            if self.server.process:
                stages.append(("killed", lambda: self.restart(signal.SIGKILL)))
            stages.append(("merged", lambda: self.client.ok("POST", f"/{index}/_forcemerge?max_num_segments=1")))
            if self.server.process and not dirty:
                stages.append(("restarted", lambda: self.restart(signal.SIGTERM)))
            for stage, act in stages:
                t = time.time()
                if act:
                    act()
                self.client.ok("POST", f"/{index}/_refresh")
                took, t, before = time.time() - t, time.time(), self.failed
                # A deleted document counts in the statistics until it is merged away.
                scored = not dirty or stage == "merged"
                self.stage(oracle, index, f"{index}/{stage}", cases, expected, scored)
                print(f"   {shards} shards, {stage} ({took:.1f} s): {self.failed - before} differences, {time.time() - t:.1f} s  {self.server.memory()}", flush=True)
            if not self.args.keep:
                self.client.ok("DELETE", f"/{index}")

    def restart(self, how):
        self.server.stop(how)
        self.server.start()
        self.client = Client(self.args.url)

    def load(self, index, docs, dirty):
        begun, size = time.time(), 0
        lines, bytes_ = [], 0

        def send():
            nonlocal lines, bytes_
            if lines:
                answer = self.client.ok("POST", f"/{index}/_bulk", b"".join(lines), "application/x-ndjson")
                if answer["errors"]:
                    bad = [i for i in answer["items"] if next(iter(i.values()))["status"] >= 300 and "delete" not in i]
                    if bad:
                        self.fail(f"{index}: {len(bad)} not indexed: {json.dumps(bad[0])}")
                lines, bytes_ = [], 0

        def add(id_, source):
            nonlocal bytes_, size
            text = b""
            if source is None:
                lines.append(json.dumps({"delete": {"_id": id_}}).encode() + b"\n")
            else:
                text = json.dumps(source, ensure_ascii=False).encode() + b"\n"
                lines.append(json.dumps({"index": {"_id": id_}}, ensure_ascii=False).encode() + b"\n")
                lines.append(text)
            bytes_ += len(lines[-1]) + 30
            size += len(text)
            if bytes_ > 4 << 20:
                send()

        sources = [{k: v for k, v in d.items() if k != "_id"} for d in docs]
        if dirty:
            for n in range(0, len(docs), 10):
                add(docs[n]["_id"], sources[n - 1])
            for n in range(0, len(docs), 50):
                add(f"gone-{n}", sources[n])
        for n, d in enumerate(docs):
            add(d["_id"], sources[n])
        if dirty:
            for n in range(0, len(docs), 50):
                add(f"gone-{n}", None)
        send()
        took = time.time() - begun
        print(f"   {index}: loaded by one client in {took:.1f} s, {len(docs) / took:.0f}/s, {size >> 20} MiB  {self.server.memory()}", flush=True)

    # -------- what a case must answer, computed once

    def expect(self, o, c):
        kind, name, *rest = c
        if kind == "query":
            return {o.ids[d] for d in o.query(rest[1])}
        if kind in ("sort", "page"):
            return [(v, o.ids[d]) for v, d in o.sort_values(rest[1], o.query(rest[0]))]
        if kind == "score":
            return {o.ids[d]: s for d, s in o.scores(rest[0]).items()}
        if kind == "source":
            return {o.ids[d]: rest[2](o.sources[d]) for d in o.query(rest[0])}
        docs = sorted(o.query(rest[1]))
        return (len(docs), o.aggs(rest[0], docs))

    def stage(self, o, index, where, cases, expected, scored):
        def count(got, want, what):
            if got != want:
                self.fail(f"{where}/{what}: {got}, not {want}")
        count(self.client.ok("GET", f"/{index}/_count")["count"], o.n, "count")
        rng = random.Random(where)
        for n in rng.sample(range(o.n), 20):
            path = urllib.parse.quote(o.ids[n], safe="")
            got = self.client.ok("GET", f"/{index}/_doc/{path}")
            if got.get("_source") != o.sources[n]:
                self.fail(f"{where}/get {o.ids[n]}: {got}")
        for c, want in zip(cases, expected):
            if c[0] == "score" and not scored:
                continue
            self.asked += 1
            try:
                difference = getattr(self, "check_" + c[0])(index, c[2:], want)
            except (SystemExit, KeyError, TypeError) as e:
                difference = f"{type(e).__name__}: {e}"
            if difference:
                self.fail(f"{where}/{c[0]} {c[1]}: {difference}")

    def search(self, index, body, **parameters):
        body = {"track_total_hits": True, **body}
        path = f"/{index}/_search" + ("?" + urllib.parse.urlencode(parameters) if parameters else "")
        answer = self.client.ok("POST", path, body)
        if answer["timed_out"] or answer["_shards"]["failed"]:
            raise SystemExit(f"incomplete: {json.dumps(answer['_shards'])[:500]}")
        return answer

    def check_query(self, index, c, want):
        size = min(10_000, len(want) + 10)
        r = self.search(index, {"query": c[0], "size": size, "_source": False})
        got = [h["_id"] for h in r["hits"]["hits"]]
        if len(set(got)) != len(got):
            return "a document twice"
        if r["hits"]["total"] != {"value": len(want), "relation": "eq"} or len(got) != min(size, len(want)) or not want.issuperset(got):
            more, less = set(got) - want, want - set(got)
            return f"total {r['hits']['total']['value']}, {len(got)} hits, not {len(want)}; wrong: {sorted(more)[:5]}, missing: {sorted(less)[:5] if len(want) < 10000 else '?'}"
        n = self.client.ok("POST", f"/{index}/_count", {"query": c[0]})["count"]
        return None if n == len(want) else f"_count {n}, not {len(want)}"

    def check_sort(self, index, c, want):
        query, sort, frm, size = c
        r = self.search(index, {"query": query, "sort": sort, "from": frm, "size": size, "_source": False})
        got = [(h["sort"], h["_id"]) for h in r["hits"]["hits"]]
        part = want[frm:frm + size]
        if r["hits"]["total"]["value"] != len(want):
            return f"total {r['hits']['total']['value']}, not {len(want)}"
        return self.ordered(got, part, 0)

    def ordered(self, got, want, at):
        if len(got) != len(want):
            return f"{len(got)} hits from {at}, not {len(want)}"
        for i, ((gs, gid), (ws, wid)) in enumerate(zip(got, want)):
            if (d := same([plain(w) for w in ws], gs)) or gid != wid:
                return f"hit {at + i} is {gid} {gs}, not {wid} {ws} ({d})"

    def check_page(self, index, c, want):
        query, sort, size = c
        at, after = 0, {}
        while True:
            r = self.search(index, {"query": query, "sort": sort, "size": size, "_source": False, **after})
            hits = r["hits"]["hits"]
            if r["hits"]["total"]["value"] != len(want):
                return f"total {r['hits']['total']['value']} at {at}, not {len(want)}"
            if (d := self.ordered([(h["sort"], h["_id"]) for h in hits], want[at:at + size], at)):
                return d
            if len(hits) < size:
                return None
            at, after = at + len(hits), {"search_after": hits[-1]["sort"]}

    def check_score(self, index, c, want):
        r = self.search(index, {"query": c[0], "size": 200, "_source": False}, search_type="dfs_query_then_fetch")
        ranked = sorted(want.values(), reverse=True)
        hits = r["hits"]["hits"]
        if len(hits) != min(200, len(want)) or r["hits"]["total"]["value"] != len(want):
            return f"{len(hits)} hits of {r['hits']['total']['value']}, not {len(want)}"
        for i, h in enumerate(hits):
            w = want.get(h["_id"])
            if w is None or not math.isclose(h["_score"], w, rel_tol=1e-5) or not math.isclose(h["_score"], ranked[i], rel_tol=1e-5):
                return f"hit {i} is {h['_id']} with {h['_score']}, which should have {w}; rank {i} has {ranked[i]}"

    def check_source(self, index, c, want):
        r = self.search(index, {"query": c[0], "size": 10_000, "_source": c[1]})
        got = {h["_id"]: h.get("_source") for h in r["hits"]["hits"]}
        if got.keys() != want.keys():
            return f"{len(got)} hits, not {len(want)}"
        return next((f"{i}: {got[i]}, not {want[i]}" for i in want if got[i] != want[i]), None)

    def check_aggs(self, index, c, want):
        r = self.search(index, {"query": c[1], "aggs": c[0], "size": 0})
        if r["hits"]["total"]["value"] != want[0]:
            return f"total {r['hits']['total']['value']}, not {want[0]}"
        return same(want[1], r["aggregations"])


def plain(v):
    """JSON has no infinity: a float that is missing sorts as text."""
    return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(v, v) if isinstance(v, float) else v


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", default="http://127.0.0.1:9200")
    p.add_argument("--data", required=True, metavar="FOLDER")
    p.add_argument("--binary", help="start, kill and restart this server")
    p.add_argument("--dir", help="its data folder; removed first")
    p.add_argument("--serve", help="further arguments of serve")
    p.add_argument("--shards", type=lambda t: [int(x) for x in t.split(",")], default=[1, 5])
    p.add_argument("--keep", action="store_true", help="leave the indices")
    p.add_argument("sets", nargs="*", metavar="SET")
    args = p.parse_args()
    server = Server(args)
    server.start()
    verifier = Verifier(args, server)
    try:
        for name in args.sets or SETS:
            verifier.run(name)
    finally:
        server.stop()
    print(f"{verifier.asked} answers compared, {verifier.failed} differences")
    sys.exit(1 if verifier.failed else 0)


if __name__ == "__main__":
    main()
