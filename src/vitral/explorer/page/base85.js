// Text to bytes: five characters are one number to base 85, the highest digit first, and four bytes, the highest first.

const LEFT_OUT = "\"&',;<>\\`"; // of the 94 visible characters of ASCII
const DIGITS = new Uint8Array(128);
let digit = 0;
for (let code = 33; code < 127; code += 1) {
  if (!LEFT_OUT.includes(String.fromCharCode(code))) {
    DIGITS[code] = digit;
    digit += 1;
  }
}

/** The first `count` bytes of a text. */
export function fromBase85(text, count) {
  const bytes = new Uint8Array((text.length / 5) * 4);
  for (let from = 0, to = 0; from < text.length; from += 5, to += 4) {
    let number = 0;
    for (let place = 0; place < 5; place += 1) number = number * 85 + DIGITS[text.charCodeAt(from + place)];
    bytes[to] = number / 16777216;
    bytes[to + 1] = number / 65536;
    bytes[to + 2] = number / 256;
    bytes[to + 3] = number;
  }
  return bytes.subarray(0, count);
}
