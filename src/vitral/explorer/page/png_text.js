// Text in a PNG file: a chunk iTXt (PNG specification, third edition, 11.3.3.4), put behind the header chunk.

const SIGNATURE = 8; // bytes
const HEADER = 25; // bytes of the chunk IHDR

/** The cyclic redundancy check of a chunk (PNG specification, annex D). */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** The bytes of a PNG file with a text under a keyword, such as "Description". */
export function withText(png, keyword, text) {
  const encoder = new TextEncoder();
  // Not compressed, in no stated language, without a translated keyword.
  const content = [...encoder.encode(`iTXt${keyword}`), 0, 0, 0, 0, 0, ...encoder.encode(text)];
  const chunk = new Uint8Array(content.length + 8);
  const numbers = new DataView(chunk.buffer);
  numbers.setUint32(0, content.length - 4); // the length is that of what follows the chunk's name
  chunk.set(content, 4);
  numbers.setUint32(4 + content.length, crc32(content));
  const place = SIGNATURE + HEADER;
  const found = new Uint8Array(png.length + chunk.length);
  found.set(png.subarray(0, place));
  found.set(chunk, place);
  found.set(png.subarray(place), place + chunk.length);
  return found;
}
