//! Writing JSON text with parts that are JSON already (`_source`), byte for byte.

use serde::Serialize;

/// Writes one object; finish it with [`ObjectOut::end`].
pub struct ObjectOut<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> ObjectOut<'a> {
    /// Opens an object at the end of `out`.
    pub fn begin(out: &'a mut Vec<u8>) -> ObjectOut<'a> {
        out.push(b'{');
        ObjectOut { out, first: true }
    }

    /// Writes a member's name; its value must follow at the end of the buffer.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        json(self.out, &key);
        self.out.push(b':');
        self.out
    }

    /// Writes a member.
    pub fn field(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        json(self.key(key), value);
    }

    /// Writes a member whose value is JSON already.
    pub fn raw(&mut self, key: &str, value: &[u8]) {
        self.key(key).extend_from_slice(value);
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends a value as JSON.
pub fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Writing to memory cannot fail, and nothing we write has keys that are not strings.
    let _ = serde_json::to_writer(out, value);
}
