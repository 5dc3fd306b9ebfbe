'use strict';

const { MemoryPool, encoding } = require('../..');
const { thrown } = require('./helpers');

const pool = new MemoryPool({ leak_check: 'paranoid' });

afterEach(() => expect(pool.stats().current).toBe(0));
afterAll(() => pool.close());

/** The bytes of a rental, which is returned. */
function bytesOf(rental) {
  const bytes = Buffer.from(rental.buffer);
  rental.return();
  return bytes;
}

function refusal(body) {
  const { code, message } = thrown(body);
  expect(code).toBe('ERR_MEMGUARD_ENCODING');
  return message;
}

describe('UTF-8', () => {
  test.each([
    ['', ''],
    ['abc', '616263'],
    ['é', 'c3a9'],
    ['日本', 'e697a5e69cac'],
    ['😀', 'f09f9880'],
    ['\u0000\u007f\u0080\u07ff\u0800\uffff', '007fc280dfbfe0a080efbfbf'],
    ['\ufeffa', 'efbbbf61'],
  ])('%j there and back', (text, hex) => {
    expect(bytesOf(encoding.utf8Encode(text, pool)).toString('hex')).toBe(hex);
    expect(encoding.utf8Decode(Buffer.from(hex, 'hex'))).toBe(text);
  });

  test('long texts of every width', () => {
    for (const piece of ['a', 'é', '日', '😀', 'aé日😀']) {
      const text = piece.repeat(50000);
      const rental = encoding.utf8Encode(text, pool);
      expect(rental.length).toBe(Buffer.byteLength(text));
      expect(encoding.utf8Decode(rental) === text).toBe(true);
      rental.return();
    }
  });

  test('views of every kind are decoded without a copy of what is around them', () => {
    const bytes = Buffer.from('[abc]');
    expect(encoding.utf8Decode(bytes.subarray(1, 4))).toBe('abc');
    expect(encoding.utf8Decode(new Uint8Array(bytes.buffer, bytes.byteOffset + 1, 3))).toBe('abc');
    expect(encoding.utf8Decode(new DataView(bytes.buffer, bytes.byteOffset + 1, 2))).toBe('ab');
    expect(encoding.utf8Decode(new Uint8Array([100, 101]).buffer)).toBe('de');
    expect(thrown(() => encoding.utf8Decode('abc')).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => encoding.utf8Decode(null)).code).toBe('ERR_MEMGUARD_TYPE');
  });

  test.each([
    ['a\ud800b', 1],
    ['\udc00', 0],
    ['😀\ud83d', 2],
    ['\ud800\ud800\udc00', 0],
  ])('a lone surrogate in %j is refused at its position', (text, at) => {
    expect(refusal(() => encoding.utf8Encode(text, pool))).toContain(`position ${at} `);
    expect(refusal(() => encoding.utf8EncodeInto(text, Buffer.alloc(10)))).toContain(`position ${at} `);
  });

  // Sequences of table 3-7 of the Unicode standard, one past each end.
  test.each([
    ['80', 0], ['6180', 1], ['c080', 0], ['c1bf', 0], ['c2', 0], ['c241', 0], ['e09fbf', 0], ['eda080', 0],
    ['efbf', 0], ['ef41bf', 0], ['efbf41', 0], ['f08fbfbf', 0], ['f4908080', 0], ['f5808080', 0], ['ff', 0],
    ['c3a9e697', 2], ['f09f9880f09f98', 4],
  ])('the bytes %s are refused at byte %i', (hex, at) => {
    expect(refusal(() => encoding.utf8Decode(Buffer.from(hex, 'hex')))).toBe(
      `byte ${at} does not begin a valid UTF-8 sequence`,
    );
  });

  test('into a destination', () => {
    const destination = Buffer.alloc(8, '.');
    expect(encoding.utf8EncodeInto('aé', destination)).toBe(3);
    expect(destination.toString('latin1')).toBe('a\xc3\xa9.....');
    expect(encoding.tryUtf8EncodeInto('日本日', destination)).toBeNull();
    expect(encoding.tryUtf8EncodeInto('a'.repeat(9), destination)).toBeNull();
    expect(destination.toString('latin1')).toBe('a\xc3\xa9.....');
    expect(encoding.tryUtf8EncodeInto('日本ab', destination)).toBe(8);
    expect(thrown(() => encoding.utf8EncodeInto('日本日', destination))).toMatchObject({
      code: 'ERR_MEMGUARD_RANGE',
      message: 'the destination has 8 bytes, needed: 9',
    });
    expect(thrown(() => encoding.utf8EncodeInto(5, destination)).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => encoding.utf8EncodeInto('a', [])).code).toBe('ERR_MEMGUARD_TYPE');
  });
});

describe('base64', () => {
  // RFC 4648, section 10.
  test.each([['', ''], ['f', 'Zg=='], ['fo', 'Zm8='], ['foo', 'Zm9v'], ['foob', 'Zm9vYg=='], ['fooba', 'Zm9vYmE=']])(
    '%j there and back',
    (text, encoded) => {
      expect(bytesOf(encoding.base64Encode(Buffer.from(text), pool)).toString()).toBe(encoded);
      expect(bytesOf(encoding.base64Decode(encoded, pool)).toString()).toBe(text);
      expect(bytesOf(encoding.base64Decode(Buffer.from(encoded), pool)).toString()).toBe(text);
    },
  );

  test('two alphabets', () => {
    const bytes = Buffer.from('fffefdfb', 'hex');
    expect(bytesOf(encoding.base64Encode(bytes, pool)).toString()).toBe('//79+w==');
    expect(bytesOf(encoding.base64Encode(bytes, pool, true)).toString()).toBe('__79-w==');
    expect(bytesOf(encoding.base64Decode('//79+w==', pool))).toEqual(bytes);
    expect(bytesOf(encoding.base64Decode('__79-w==', pool, true))).toEqual(bytes);
  });

  test('every length, and long ones', () => {
    for (const length of [...Array(70).keys(), 12287, 12288, 12289, 200000, 200001]) {
      const bytes = Buffer.alloc(length, Buffer.from([1, 250, 99, 255, 3]));
      for (const urlSafe of [false, true]) {
        const encoded = encoding.base64Encode(bytes, pool, urlSafe);
        expect(encoded.length).toBe(4 * Math.ceil(length / 3));
        expect(bytesOf(encoding.base64Decode(encoded, pool, urlSafe)).equals(bytes)).toBe(true);
        encoded.return();
      }
    }
  });

  test.each([
    ['Zg', 2, 'the end'],
    ['Zg=', 3, 'the end'],
    ['Zh==', 1, 'bits'],
    ['Zm9=', 2, 'bits'],
    ['Zm 9v', 2, 'alphabet'],
    ['Zm9v\n', 4, 'alphabet'],
    ['Zm-v', 2, 'alphabet'],
    ['Zm_v', 2, 'alphabet'],
    ['Zm\u01419', 2, 'alphabet'],
    ['Z=9v', 1, 'padding'],
    ['Zg==Zg==', 2, 'padding'],
    ['====', 0, 'padding'],
    ['Z===', 1, 'padding'],
    ['=', 1, 'the end'],
  ])('%j is refused at position %i', (text, at, reason) => {
    const message = refusal(() => encoding.base64Decode(text, pool));
    expect(message).toContain(`position ${at} is `);
    expect(message).toContain(reason);
  });

  test('the url-safe alphabet has no plus and no slash', () => {
    expect(refusal(() => encoding.base64Decode('Zm+v', pool, true))).toContain('position 2 is ');
    expect(refusal(() => encoding.base64Decode('Zm/v', pool, true))).toContain('position 2 is ');
  });

  test('values of other types are refused', () => {
    expect(thrown(() => encoding.base64Encode('text', pool)).code).toBe('ERR_MEMGUARD_TYPE');
    expect(thrown(() => encoding.base64Decode(5, pool)).code).toBe('ERR_MEMGUARD_TYPE');
  });
});

test('the shared pool is used without another one', () => {
  const rental = encoding.utf8Encode('abc');
  expect(rental.buffer.toString()).toBe('abc');
  rental.return();
});
