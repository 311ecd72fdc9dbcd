# The snapshot file as a Kaitai Struct (https://doc.kaitai.io), a companion of the chapters FILE, VISI, ENVL and RTTL.
# It takes a file apart into fields, and fails where the structure is wrong (FILE-4, FILE-5, FILE-7 to FILE-9, FILE-12,
# FILE-13, FILE-15) or an entry has no room for its fields (VISI-1, VISI-2). What it cannot say: the order of entries
# (FILE-16), the footer's sum (FILE-18), which version counts (VISI-11), and what becomes of a record (FATE).
meta:
  id: ekv_snapshot
  title: Snapshot of an elastickv node
  file-extension: fsm
  endian: le
  bit-endian: be
doc-ref: ../format/03-snapshot-file.md
seq:
  - id: file_header
    type: file_header
    if: starts_with_file_header
  - id: payload_magic
    contents: EKVPBBL1
    doc: FILE-6
  - id: last_commit_ts
    type: u8
    doc: FILE-6
  - id: entries
    type: entry
    if: not _io.eof and _io.size - _io.pos != 4
    repeat: until
    repeat-until: _io.eof or _io.size - _io.pos == 4
    doc: FILE-11
  - id: footer
    type: u4be
    if: not _io.eof
    doc: CRC-32C of every byte before it. FILE-17
instances:
  beginning:
    pos: 0
    size: '_io.size < 7 ? _io.size : 7'
  starts_with_file_header:
    value: beginning == [0x45, 0x4b, 0x56, 0x54, 0x48, 0x4c, 0x43]
types:
  file_header:
    seq:
      - id: magic
        contents: EKVTHLC
      - id: version
        type: u1
        valid:
          any-of: [0x31, 0x32]
        doc: FILE-1, FILE-2, FILE-5
      - id: size
        type: u2be
        valid:
          min: 16
          max: 1024
        if: version == 0x32
        doc: FILE-4
      - id: ceiling_ms
        type: u8be
      - id: cutover_index
        type: u8be
        if: version == 0x32
      - id: extension
        size: size - 16
        if: version == 0x32
        doc: FILE-3
  entry:
    seq:
      - id: key_size
        type: u8
        valid:
          max: 1048584
        doc: FILE-12
      - id: key
        size: key_size
        type: encoded_key
      - id: value_size
        type: u8
        valid:
          max: 268435499
        doc: FILE-13
      - id: operational_value
        size: value_size
        if: is_operational
        doc: VISI-9
      - id: value
        size: value_size
        type: encoded_value
        if: not is_operational
    instances:
      is_operational:
        value: (value_size == 8 and key.is_meta) or (value_size == 12 and key.is_writers)
        doc: VISI-7, VISI-8, VISI-10
      storage_key:
        value: key.storage_key
        if: not is_operational
      type:
        enum: record_type
        value: >-
          key.has_prefix and key.prefix == [0x21, 0x72, 0x65, 0x64, 0x69, 0x73, 0x7c, 0x73, 0x74, 0x72, 0x7c] ? 1 :
          key.has_prefix and key.prefix == [0x21, 0x72, 0x65, 0x64, 0x69, 0x73, 0x7c, 0x68, 0x6c, 0x6c, 0x7c] ? 2 :
          key.has_prefix and key.prefix == [0x21, 0x72, 0x65, 0x64, 0x69, 0x73, 0x7c, 0x74, 0x74, 0x6c, 0x7c] ? 3 : 0
        doc: Whose body it has, as far as this file knows. KEYS-1, KEYS-2
  encoded_key:
    seq:
      - id: whole
        size-eos: true
    instances:
      size:
        value: _io.size
      storage_key:
        pos: 0
        size: size - 8
        doc: VISI-1
      version_suffix:
        pos: size - 8
        type: u8be
        doc: NOT commit timestamp. VISI-1
      has_prefix:
        value: size >= 19
      prefix:
        pos: 0
        size: 11
        if: has_prefix
      is_meta:
        doc: _meta_last_commit_ts, _meta_min_retained_ts, _meta_pending_min_retained_ts, _meta_applied_index. VISI-7
        value: >-
          whole == [0x5f, 0x6d, 0x65, 0x74, 0x61, 0x5f, 0x6c, 0x61, 0x73, 0x74, 0x5f, 0x63, 0x6f, 0x6d, 0x6d, 0x69, 0x74,
          0x5f, 0x74, 0x73] or
          whole == [0x5f, 0x6d, 0x65, 0x74, 0x61, 0x5f, 0x6d, 0x69, 0x6e, 0x5f, 0x72, 0x65, 0x74, 0x61, 0x69, 0x6e, 0x65,
          0x64, 0x5f, 0x74, 0x73] or
          whole == [0x5f, 0x6d, 0x65, 0x74, 0x61, 0x5f, 0x70, 0x65, 0x6e, 0x64, 0x69, 0x6e, 0x67, 0x5f, 0x6d, 0x69, 0x6e,
          0x5f, 0x72, 0x65, 0x74, 0x61, 0x69, 0x6e, 0x65, 0x64, 0x5f, 0x74, 0x73] or
          whole == [0x5f, 0x6d, 0x65, 0x74, 0x61, 0x5f, 0x61, 0x70, 0x70, 0x6c, 0x69, 0x65, 0x64, 0x5f, 0x69, 0x6e, 0x64,
          0x65, 0x78]
      writers_beginning:
        pos: 0
        size: 20
        if: size == 27
      writers_bar:
        pos: 24
        type: u1
        if: size == 27
      is_writers:
        doc: '!encryption|writers|, four bytes, |, two bytes. VISI-8'
        value: >-
          size == 27 and writers_bar == 0x7c and writers_beginning == [0x21, 0x65, 0x6e, 0x63, 0x72, 0x79, 0x70, 0x74,
          0x69, 0x6f, 0x6e, 0x7c, 0x77, 0x72, 0x69, 0x74, 0x65, 0x72, 0x73, 0x7c]
  encoded_value:
    doc: VISI-2
    seq:
      - id: reserved
        type: b5
        doc: VISI-3
      - id: encryption_state
        type: b2
        doc: 0 clear, 1 encrypted. VISI-4, VISI-5
      - id: tombstone
        type: b1
      - id: expire_at
        type: u8
        doc: The store's clock; 0 is none. VISI-13
      - id: body
        size-eos: true
        type:
          switch-on: _parent.type
          cases:
            'record_type::string': body(1)
            'record_type::hll': body(2)
            'record_type::ttl': ttl_body
            'record_type::other': other_body
  body:
    doc: The body of a string (kind 1) or an HLL (kind 2). ENVL-1, ENVL-2
    params:
      - id: kind
        type: u1
    seq:
      - id: envelope
        type: envelope
        if: is_envelope
      - id: legacy
        size-eos: true
        if: not is_envelope
        doc: ENVL-3
    instances:
      beginning:
        pos: 0
        type: u2be
        if: _io.size >= 2
      is_envelope:
        value: _io.size >= 2 and beginning == 0xff00 + kind
  envelope:
    seq:
      - id: magic
        type: u1
      - id: kind
        type: u1
      - id: flags
        type: u1
        if: not _io.eof
        doc: Bit 0 is HAS_EXPIRY. An envelope without flags is unreadable. ENVL-4
      - id: expiry_ms
        type: u8be
        if: has_expiry and _io.size >= 11
        doc: ENVL-5, ENVL-7
      - id: payload
        size-eos: true
        if: is_readable
        doc: ENVL-9
    instances:
      has_expiry:
        value: _io.size >= 3 and (flags & 1) == 1
      is_readable:
        value: _io.size >= 3 and (not has_expiry or _io.size >= 11)
        doc: ENVL-4, ENVL-5
  ttl_body:
    doc: RTTL-1
    seq:
      - id: expiry_ms
        type: u8be
        if: is_sound
      - id: malformed
        size-eos: true
        if: not is_sound
    instances:
      is_sound:
        value: _io.size == 8
  other_body:
    seq:
      - id: bytes
        size-eos: true
enums:
  record_type:
    0: other
    1: string
    2: hll
    3: ttl
