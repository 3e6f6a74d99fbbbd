//! How a consumer reads a header.

/// A percent sign that no two digits follow is no header of ours, and fails the test: no library is as strict.
pub(crate) fn decoded(value: &[u8]) -> String {
    let (mut bytes, mut rest) = (Vec::new(), value);
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let (code, tail) = rest.split_at(2);
            bytes.push(u8::from_str_radix(std::str::from_utf8(code).unwrap(), 16).unwrap());
            rest = tail;
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).unwrap()
}
