"""A tour through an unmodified client: info, bulk helper, get, update, search, scan, aggregations, errors, delete.

Usage: tour.py URL NAME; the client that is installed decides the dialect. Any difference from what is expected raises.
"""

import sys

url, name = sys.argv[1], sys.argv[2]

if name.startswith("opensearch"):
    from opensearchpy import ConflictError, NotFoundError, OpenSearch, helpers

    client = OpenSearch(url)
else:
    from elasticsearch import ConflictError, Elasticsearch, NotFoundError, helpers

    client = Elasticsearch(url)

# Version 8 and 9 take parts of the body as arguments, 7 and OpenSearch a whole body.
modern = name.startswith(("elasticsearch==8", "elasticsearch==9"))


def search(index, **body):
    return client.search(index=index, **body) if modern else client.search(index=index, body=body)


def create(index, **body):
    return client.indices.create(index=index, **body) if modern else client.indices.create(index=index, body=body)


def put(index, id, document, **options):
    return client.index(index=index, id=id, **({"document": document} if modern else {"body": document}), **options)


index = "tour-" + "".join(c if c.isalnum() else "-" for c in name).lower()

info = client.info()
assert info["version"]["number"] == "7.10.2", info
assert client.ping()

if client.indices.exists(index=index):
    client.indices.delete(index=index)
created = create(
    index,
    settings={"number_of_shards": 2, "number_of_replicas": 0},
    mappings={"properties": {"title": {"type": "text"}, "year": {"type": "integer"}, "genre": {"type": "keyword"}}},
)
assert created["acknowledged"] and created["index"] == index, created
assert client.indices.exists(index=index)

words = ["river", "mountain", "city", "desert", "sea"]
documents = [
    {"_index": index, "_id": str(i), "title": f"the {words[i % 5]} of film number {i}", "year": 1950 + i % 70, "genre": words[i % 5]}
    for i in range(2500)
]
done, errors = helpers.bulk(client, documents, chunk_size=400, refresh=True)
assert done == 2500 and not errors, (done, errors)
assert client.count(index=index)["count"] == 2500

got = client.get(index=index, id="7")
assert got["found"] and got["_source"]["genre"] == "city" and got["_version"] == 1, got
assert client.exists(index=index, id="7") and not client.exists(index=index, id="nope")
assert [d["found"] for d in client.mget(index=index, body={"ids": ["1", "nope"]})["docs"]] == [True, False]

change = {"doc": {"genre": "island"}}
updated = client.update(index=index, id="7", **(change if modern else {"body": change}))
assert updated["result"] == "updated" and updated["_version"] == 2, updated
again = client.update(index=index, id="7", **(change if modern else {"body": change}))
assert again["result"] == "noop", again
assert client.get(index=index, id="7")["_source"]["genre"] == "island"

client.indices.refresh(index=index)
found = search(index, query={"match": {"title": "river"}}, size=3, track_total_hits=True)
assert found["hits"]["total"] == {"value": 500, "relation": "eq"}, found["hits"]["total"]
assert len(found["hits"]["hits"]) == 3 and found["hits"]["hits"][0]["_source"]["genre"] == "river", found
both = search(
    index,
    query={"bool": {"must": [{"match": {"title": "sea"}}], "filter": [{"range": {"year": {"gte": 2000}}}]}},
    sort=[{"year": "desc"}, "_doc"],
    size=1,
)
assert both["hits"]["hits"][0]["_source"]["year"] == 2019, both
counted = search(index, size=0, aggs={"genres": {"terms": {"field": "genre", "size": 10}, "aggs": {"first": {"min": {"field": "year"}}}}})
buckets = {b["key"]: b["doc_count"] for b in counted["aggregations"]["genres"]["buckets"]}
assert buckets == {"river": 500, "mountain": 500, "city": 499, "desert": 500, "sea": 500, "island": 1}, buckets

seen = [hit["_id"] for hit in helpers.scan(client, index=index, query={"query": {"match_all": {}}}, size=300)]
assert len(seen) == 2500 and len(set(seen)) == 2500, (len(seen), len(set(seen)))

last = client.get(index=index, id="9")
put(index, "9", {"title": "changed"}, if_seq_no=last["_seq_no"], if_primary_term=last["_primary_term"])
try:
    put(index, "9", {"title": "lost"}, if_seq_no=last["_seq_no"], if_primary_term=last["_primary_term"])
    raise AssertionError("a stale sequence number was accepted")
except ConflictError:
    pass
try:
    client.get(index=index, id="nope")
    raise AssertionError("a missing document was found")
except NotFoundError:
    pass

assert client.delete(index=index, id="9")["result"] == "deleted"
assert client.cluster.health()["status"] in ("green", "yellow")
assert any(line["index"] == index for line in client.cat.indices(format="json"))
assert client.indices.delete(index=index)["acknowledged"]
assert not client.indices.exists(index=index)
print(f"{name}: tour complete")
