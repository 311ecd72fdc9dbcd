# Made from ekv_snapshot.ksy, SHA-256 4db05d249302c6b38203f89c9a90abf3bd1a462c912a07489a18f1ef838c5fae; see tools/compile_kaitai.py.
# This is a generated file! Please edit source .ksy file and use kaitai-struct-compiler to rebuild
# type: ignore

import kaitaistruct
from kaitaistruct import KaitaiStruct, KaitaiStream, BytesIO
from enum import IntEnum


if getattr(kaitaistruct, 'API_VERSION', (0, 9)) < (0, 11):
    raise Exception("Incompatible Kaitai Struct Python API: 0.11 or later is required, but you have %s" % (kaitaistruct.__version__))

class EkvSnapshot(KaitaiStruct):
    """
    .. seealso::
       ../format/03-snapshot-file.md
    """

    class RecordType(IntEnum):
        other = 0
        string = 1
        hll = 2
        ttl = 3
    def __init__(self, _io, _parent=None, _root=None):
        super(EkvSnapshot, self).__init__(_io)
        self._parent = _parent
        self._root = _root or self
        self._read()

    def _read(self):
        if self.starts_with_file_header:
            pass
            self.file_header = EkvSnapshot.FileHeader(self._io, self, self._root)

        self.payload_magic = self._io.read_bytes(8)
        if not self.payload_magic == b"\x45\x4B\x56\x50\x42\x42\x4C\x31":
            raise kaitaistruct.ValidationNotEqualError(b"\x45\x4B\x56\x50\x42\x42\x4C\x31", self.payload_magic, self._io, u"/seq/1")
        self.last_commit_ts = self._io.read_u8le()
        if  (((not (self._io.is_eof()))) and (self._io.size() - self._io.pos() != 4)) :
            pass
            self.entries = []
            i = 0
            while True:
                _ = EkvSnapshot.Entry(self._io, self, self._root)
                self.entries.append(_)
                if  ((self._io.is_eof()) or (self._io.size() - self._io.pos() == 4)) :
                    break
                i += 1

        if (not (self._io.is_eof())):
            pass
            self.footer = self._io.read_u4be()



    def _fetch_instances(self):
        pass
        if self.starts_with_file_header:
            pass
            self.file_header._fetch_instances()

        if  (((not (self._io.is_eof()))) and (self._io.size() - self._io.pos() != 4)) :
            pass
            for i in range(len(self.entries)):
                pass
                self.entries[i]._fetch_instances()


        if (not (self._io.is_eof())):
            pass

        _ = self.beginning
        if hasattr(self, '_m_beginning'):
            pass


    class Body(KaitaiStruct):
        """The body of a string (kind 1) or an HLL (kind 2). ENVL-1, ENVL-2."""
        def __init__(self, kind, _io, _parent=None, _root=None):
            super(EkvSnapshot.Body, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self.kind = kind
            self._read()

        def _read(self):
            if self.is_envelope:
                pass
                self.envelope = EkvSnapshot.Envelope(self._io, self, self._root)

            if (not (self.is_envelope)):
                pass
                self.legacy = self._io.read_bytes_full()



        def _fetch_instances(self):
            pass
            if self.is_envelope:
                pass
                self.envelope._fetch_instances()

            if (not (self.is_envelope)):
                pass

            _ = self.beginning
            if hasattr(self, '_m_beginning'):
                pass


        @property
        def beginning(self):
            if hasattr(self, '_m_beginning'):
                return self._m_beginning

            if self._io.size() >= 2:
                pass
                _pos = self._io.pos()
                self._io.seek(0)
                self._m_beginning = self._io.read_u2be()
                self._io.seek(_pos)

            return getattr(self, '_m_beginning', None)

        @property
        def is_envelope(self):
            if hasattr(self, '_m_is_envelope'):
                return self._m_is_envelope

            self._m_is_envelope =  ((self._io.size() >= 2) and (self.beginning == 65280 + self.kind)) 
            return getattr(self, '_m_is_envelope', None)


    class EncodedKey(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(EkvSnapshot.EncodedKey, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.whole = self._io.read_bytes_full()


        def _fetch_instances(self):
            pass
            _ = self.prefix
            if hasattr(self, '_m_prefix'):
                pass

            _ = self.storage_key
            if hasattr(self, '_m_storage_key'):
                pass

            _ = self.version_suffix
            if hasattr(self, '_m_version_suffix'):
                pass

            _ = self.writers_bar
            if hasattr(self, '_m_writers_bar'):
                pass

            _ = self.writers_beginning
            if hasattr(self, '_m_writers_beginning'):
                pass


        @property
        def has_prefix(self):
            if hasattr(self, '_m_has_prefix'):
                return self._m_has_prefix

            self._m_has_prefix = self.size >= 19
            return getattr(self, '_m_has_prefix', None)

        @property
        def is_meta(self):
            """_meta_last_commit_ts, _meta_min_retained_ts, _meta_pending_min_retained_ts, _meta_applied_index. VISI-7."""
            if hasattr(self, '_m_is_meta'):
                return self._m_is_meta

            self._m_is_meta =  ((self.whole == b"\x5F\x6D\x65\x74\x61\x5F\x6C\x61\x73\x74\x5F\x63\x6F\x6D\x6D\x69\x74\x5F\x74\x73") or (self.whole == b"\x5F\x6D\x65\x74\x61\x5F\x6D\x69\x6E\x5F\x72\x65\x74\x61\x69\x6E\x65\x64\x5F\x74\x73") or (self.whole == b"\x5F\x6D\x65\x74\x61\x5F\x70\x65\x6E\x64\x69\x6E\x67\x5F\x6D\x69\x6E\x5F\x72\x65\x74\x61\x69\x6E\x65\x64\x5F\x74\x73") or (self.whole == b"\x5F\x6D\x65\x74\x61\x5F\x61\x70\x70\x6C\x69\x65\x64\x5F\x69\x6E\x64\x65\x78")) 
            return getattr(self, '_m_is_meta', None)

        @property
        def is_writers(self):
            """!encryption|writers|, four bytes, |, two bytes. VISI-8."""
            if hasattr(self, '_m_is_writers'):
                return self._m_is_writers

            self._m_is_writers =  ((self.size == 27) and (self.writers_bar == 124) and (self.writers_beginning == b"\x21\x65\x6E\x63\x72\x79\x70\x74\x69\x6F\x6E\x7C\x77\x72\x69\x74\x65\x72\x73\x7C")) 
            return getattr(self, '_m_is_writers', None)

        @property
        def prefix(self):
            if hasattr(self, '_m_prefix'):
                return self._m_prefix

            if self.has_prefix:
                pass
                _pos = self._io.pos()
                self._io.seek(0)
                self._m_prefix = self._io.read_bytes(11)
                self._io.seek(_pos)

            return getattr(self, '_m_prefix', None)

        @property
        def size(self):
            if hasattr(self, '_m_size'):
                return self._m_size

            self._m_size = self._io.size()
            return getattr(self, '_m_size', None)

        @property
        def storage_key(self):
            """VISI-1."""
            if hasattr(self, '_m_storage_key'):
                return self._m_storage_key

            _pos = self._io.pos()
            self._io.seek(0)
            self._m_storage_key = self._io.read_bytes(self.size - 8)
            self._io.seek(_pos)
            return getattr(self, '_m_storage_key', None)

        @property
        def version_suffix(self):
            """NOT commit timestamp. VISI-1."""
            if hasattr(self, '_m_version_suffix'):
                return self._m_version_suffix

            _pos = self._io.pos()
            self._io.seek(self.size - 8)
            self._m_version_suffix = self._io.read_u8be()
            self._io.seek(_pos)
            return getattr(self, '_m_version_suffix', None)

        @property
        def writers_bar(self):
            if hasattr(self, '_m_writers_bar'):
                return self._m_writers_bar

            if self.size == 27:
                pass
                _pos = self._io.pos()
                self._io.seek(24)
                self._m_writers_bar = self._io.read_u1()
                self._io.seek(_pos)

            return getattr(self, '_m_writers_bar', None)

        @property
        def writers_beginning(self):
            if hasattr(self, '_m_writers_beginning'):
                return self._m_writers_beginning

            if self.size == 27:
                pass
                _pos = self._io.pos()
                self._io.seek(0)
                self._m_writers_beginning = self._io.read_bytes(20)
                self._io.seek(_pos)

            return getattr(self, '_m_writers_beginning', None)


    class EncodedValue(KaitaiStruct):
        """VISI-2."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EkvSnapshot.EncodedValue, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.reserved = self._io.read_bits_int_be(5)
            self.encryption_state = self._io.read_bits_int_be(2)
            self.tombstone = self._io.read_bits_int_be(1) != 0
            self.expire_at = self._io.read_u8le()
            _on = self._parent.type
            if _on == EkvSnapshot.RecordType.hll:
                pass
                self._raw_body = self._io.read_bytes_full()
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = EkvSnapshot.Body(2, _io__raw_body, self, self._root)
            elif _on == EkvSnapshot.RecordType.other:
                pass
                self._raw_body = self._io.read_bytes_full()
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = EkvSnapshot.OtherBody(_io__raw_body, self, self._root)
            elif _on == EkvSnapshot.RecordType.string:
                pass
                self._raw_body = self._io.read_bytes_full()
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = EkvSnapshot.Body(1, _io__raw_body, self, self._root)
            elif _on == EkvSnapshot.RecordType.ttl:
                pass
                self._raw_body = self._io.read_bytes_full()
                _io__raw_body = KaitaiStream(BytesIO(self._raw_body))
                self.body = EkvSnapshot.TtlBody(_io__raw_body, self, self._root)
            else:
                pass
                self.body = self._io.read_bytes_full()


        def _fetch_instances(self):
            pass
            _on = self._parent.type
            if _on == EkvSnapshot.RecordType.hll:
                pass
                self.body._fetch_instances()
            elif _on == EkvSnapshot.RecordType.other:
                pass
                self.body._fetch_instances()
            elif _on == EkvSnapshot.RecordType.string:
                pass
                self.body._fetch_instances()
            elif _on == EkvSnapshot.RecordType.ttl:
                pass
                self.body._fetch_instances()
            else:
                pass


    class Entry(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(EkvSnapshot.Entry, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.key_size = self._io.read_u8le()
            if not self.key_size <= 1048584:
                raise kaitaistruct.ValidationGreaterThanError(1048584, self.key_size, self._io, u"/types/entry/seq/0")
            self._raw_key = self._io.read_bytes(self.key_size)
            _io__raw_key = KaitaiStream(BytesIO(self._raw_key))
            self.key = EkvSnapshot.EncodedKey(_io__raw_key, self, self._root)
            self.value_size = self._io.read_u8le()
            if not self.value_size <= 268435499:
                raise kaitaistruct.ValidationGreaterThanError(268435499, self.value_size, self._io, u"/types/entry/seq/2")
            if self.is_operational:
                pass
                self.operational_value = self._io.read_bytes(self.value_size)

            if (not (self.is_operational)):
                pass
                self._raw_value = self._io.read_bytes(self.value_size)
                _io__raw_value = KaitaiStream(BytesIO(self._raw_value))
                self.value = EkvSnapshot.EncodedValue(_io__raw_value, self, self._root)



        def _fetch_instances(self):
            pass
            self.key._fetch_instances()
            if self.is_operational:
                pass

            if (not (self.is_operational)):
                pass
                self.value._fetch_instances()


        @property
        def is_operational(self):
            """VISI-7, VISI-8, VISI-10."""
            if hasattr(self, '_m_is_operational'):
                return self._m_is_operational

            self._m_is_operational =  (( ((self.value_size == 8) and (self.key.is_meta)) ) or ( ((self.value_size == 12) and (self.key.is_writers)) )) 
            return getattr(self, '_m_is_operational', None)

        @property
        def storage_key(self):
            if hasattr(self, '_m_storage_key'):
                return self._m_storage_key

            if (not (self.is_operational)):
                pass
                self._m_storage_key = self.key.storage_key

            return getattr(self, '_m_storage_key', None)

        @property
        def type(self):
            """Whose body it has, as far as this file knows. KEYS-1, KEYS-2."""
            if hasattr(self, '_m_type'):
                return self._m_type

            self._m_type = KaitaiStream.resolve_enum(EkvSnapshot.RecordType, (1 if  ((self.key.has_prefix) and (self.key.prefix == b"\x21\x72\x65\x64\x69\x73\x7C\x73\x74\x72\x7C"))  else (2 if  ((self.key.has_prefix) and (self.key.prefix == b"\x21\x72\x65\x64\x69\x73\x7C\x68\x6C\x6C\x7C"))  else (3 if  ((self.key.has_prefix) and (self.key.prefix == b"\x21\x72\x65\x64\x69\x73\x7C\x74\x74\x6C\x7C"))  else 0))))
            return getattr(self, '_m_type', None)


    class Envelope(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(EkvSnapshot.Envelope, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.magic = self._io.read_u1()
            self.kind = self._io.read_u1()
            if (not (self._io.is_eof())):
                pass
                self.flags = self._io.read_u1()

            if  ((self.has_expiry) and (self._io.size() >= 11)) :
                pass
                self.expiry_ms = self._io.read_u8be()

            if self.is_readable:
                pass
                self.payload = self._io.read_bytes_full()



        def _fetch_instances(self):
            pass
            if (not (self._io.is_eof())):
                pass

            if  ((self.has_expiry) and (self._io.size() >= 11)) :
                pass

            if self.is_readable:
                pass


        @property
        def has_expiry(self):
            if hasattr(self, '_m_has_expiry'):
                return self._m_has_expiry

            self._m_has_expiry =  ((self._io.size() >= 3) and (self.flags & 1 == 1)) 
            return getattr(self, '_m_has_expiry', None)

        @property
        def is_readable(self):
            """ENVL-4, ENVL-5."""
            if hasattr(self, '_m_is_readable'):
                return self._m_is_readable

            self._m_is_readable =  ((self._io.size() >= 3) and ( (((not (self.has_expiry))) or (self._io.size() >= 11)) )) 
            return getattr(self, '_m_is_readable', None)


    class FileHeader(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(EkvSnapshot.FileHeader, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.magic = self._io.read_bytes(7)
            if not self.magic == b"\x45\x4B\x56\x54\x48\x4C\x43":
                raise kaitaistruct.ValidationNotEqualError(b"\x45\x4B\x56\x54\x48\x4C\x43", self.magic, self._io, u"/types/file_header/seq/0")
            self.version = self._io.read_u1()
            if not  ((self.version == 49) or (self.version == 50)) :
                raise kaitaistruct.ValidationNotAnyOfError(self.version, self._io, u"/types/file_header/seq/1")
            if self.version == 50:
                pass
                self.size = self._io.read_u2be()
                if not self.size >= 16:
                    raise kaitaistruct.ValidationLessThanError(16, self.size, self._io, u"/types/file_header/seq/2")
                if not self.size <= 1024:
                    raise kaitaistruct.ValidationGreaterThanError(1024, self.size, self._io, u"/types/file_header/seq/2")

            self.ceiling_ms = self._io.read_u8be()
            if self.version == 50:
                pass
                self.cutover_index = self._io.read_u8be()

            if self.version == 50:
                pass
                self.extension = self._io.read_bytes(self.size - 16)



        def _fetch_instances(self):
            pass
            if self.version == 50:
                pass

            if self.version == 50:
                pass

            if self.version == 50:
                pass



    class OtherBody(KaitaiStruct):
        def __init__(self, _io, _parent=None, _root=None):
            super(EkvSnapshot.OtherBody, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            self.bytes = self._io.read_bytes_full()


        def _fetch_instances(self):
            pass


    class TtlBody(KaitaiStruct):
        """RTTL-1."""
        def __init__(self, _io, _parent=None, _root=None):
            super(EkvSnapshot.TtlBody, self).__init__(_io)
            self._parent = _parent
            self._root = _root
            self._read()

        def _read(self):
            if self.is_sound:
                pass
                self.expiry_ms = self._io.read_u8be()

            if (not (self.is_sound)):
                pass
                self.malformed = self._io.read_bytes_full()



        def _fetch_instances(self):
            pass
            if self.is_sound:
                pass

            if (not (self.is_sound)):
                pass


        @property
        def is_sound(self):
            if hasattr(self, '_m_is_sound'):
                return self._m_is_sound

            self._m_is_sound = self._io.size() == 8
            return getattr(self, '_m_is_sound', None)


    @property
    def beginning(self):
        if hasattr(self, '_m_beginning'):
            return self._m_beginning

        _pos = self._io.pos()
        self._io.seek(0)
        self._m_beginning = self._io.read_bytes((self._io.size() if self._io.size() < 7 else 7))
        self._io.seek(_pos)
        return getattr(self, '_m_beginning', None)

    @property
    def starts_with_file_header(self):
        if hasattr(self, '_m_starts_with_file_header'):
            return self._m_starts_with_file_header

        self._m_starts_with_file_header = self.beginning == b"\x45\x4B\x56\x54\x48\x4C\x43"
        return getattr(self, '_m_starts_with_file_header', None)


