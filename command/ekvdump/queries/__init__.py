"""What a snapshot or dump holds, key by key: get, keys, resp and diff."""
