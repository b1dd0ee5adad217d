#!/usr/bin/env python3
"""Ranks test collections over HTTP and compares with what Apache Lucene made of them.

    relevance.py --data FOLDER --url http://127.0.0.1:9200 [ir-cranfield ir-cacm ir-npl]

A set has docs.ndjson.gz (in the order to index), queries.tsv (id, text), qrels.tsv (id, 0, document, grade) and
lucene.{standard,english}.tsv.gz: the first 20 of every query: query, rank, document, score, exact number of hits.
One index of one shard for each analyzer; a `match` query on `text`. Checked: the same number of hits, the same documents in
the same order (ties by the order of indexing), `_score` / 2.2 equal to 1e-5, nDCG@10 equal to 0.001. Exit code 1 if not.
Standard library only; not part of `cargo test`, since the texts are not in the repository.
"""
import argparse, gzip, json, math, os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from verify import Client


def rows(path):
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as f:
        return [line.rstrip("\n").split("\t") for line in f]


def ndcg10(qrels, run):
    """trec_eval's: gain is the grade, discount log2(rank + 1), averaged over the judged queries."""
    dcg = lambda grades: sum(g / math.log2(i + 2) for i, g in enumerate(grades[:10]))
    judged = [q for q in qrels if any(g > 0 for g in qrels[q].values())]
    return sum(dcg([max(0, qrels[q].get(d, 0)) for d in run.get(q, [])]) / dcg(sorted(qrels[q].values(), reverse=True)) for q in judged) / len(judged)


def index(client, name, folder, analyzer):
    client.call("DELETE", f"/{name}")
    client.ok("PUT", f"/{name}", {
        "settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"dynamic": False, "properties": {"text": {"type": "text", "analyzer": analyzer}}}})
    lines = []
    with gzip.open(f"{folder}/docs.ndjson.gz", "rt", encoding="utf-8") as docs:
        for line in docs:
            doc = json.loads(line)
            lines.append(json.dumps({"index": {"_id": doc.pop("_id")}}))
            lines.append(json.dumps(doc, ensure_ascii=False))
    for at in range(0, len(lines), 2000):
        body = ("\n".join(lines[at:at + 2000]) + "\n").encode()
        assert not client.ok("POST", f"/{name}/_bulk", body, "application/x-ndjson")["errors"]
    client.ok("POST", f"/{name}/_refresh")


def check(client, folder, set_, analyzer):
    name = f"relevance-{set_}-{analyzer}"
    index(client, name, folder, analyzer)
    lucene = {}
    for query, _rank, doc, score, hits in rows(f"{folder}/lucene.{analyzer}.tsv.gz"):
        lucene.setdefault(query, []).append((doc, float(score), int(hits)))
    qrels = {}
    for query, _, doc, grade in rows(f"{folder}/qrels.tsv"):
        qrels.setdefault(query, {})[doc] = int(grade)
    run, worst, wrong = {}, 0.0, []
    for query, text in rows(f"{folder}/queries.tsv"):
        found = client.ok("POST", f"/{name}/_search", {
            "query": {"match": {"text": text}}, "size": 20, "track_total_hits": True, "_source": False})["hits"]
        want = lucene.get(query, [])
        got = [(h["_id"], h["_score"] / 2.2) for h in found["hits"]]
        run[query] = [d for d, _ in got]
        if found["total"]["value"] != (want[0][2] if want else 0):
            wrong.append(f"query {query}: {found['total']['value']} hits, Lucene has {want[0][2] if want else 0}")
        if [d for d, _ in got] != [d for d, _, _ in want]:
            first = next((i for i, (g, w) in enumerate(zip(got, want)) if g[0] != w[0]), min(len(got), len(want)))
            wrong.append(f"query {query}: rank {first + 1} differs: {got[first:first + 2]} / {want[first:first + 2]}")
        for (_, score), (_, expected, _) in zip(got, want):
            worst = max(worst, abs(score - expected) / expected)
    mine = ndcg10(qrels, run)
    theirs = ndcg10(qrels, {q: [d for d, _, _ in hits] for q, hits in lucene.items()})
    if worst > 1e-5:
        wrong.append(f"scores differ by up to {worst:.2e}")
    if abs(mine - theirs) > 0.001:
        wrong.append(f"nDCG@10 {mine:.4f}, Lucene has {theirs:.4f}")
    print(f"{set_:13} {analyzer:9} {len(run):4} queries  nDCG@10 {mine:.4f} (Lucene {theirs:.4f})  "
          f"score difference <= {worst:.1e}  {len(wrong)} differences", flush=True)
    for line in wrong[:10]:
        print("  ", line)
    client.ok("DELETE", f"/{name}")
    return len(wrong)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", default="http://127.0.0.1:9200")
    p.add_argument("--data", required=True, metavar="FOLDER")
    p.add_argument("sets", nargs="*", default=["ir-cranfield", "ir-cacm", "ir-npl"])
    args = p.parse_args()
    client = Client(args.url)
    sys.exit(1 if sum(check(client, os.path.join(args.data, s), s, a) for s in args.sets for a in ("standard", "english")) else 0)


if __name__ == "__main__":
    main()
