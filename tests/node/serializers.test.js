'use strict';

const { execFileSync } = require('child_process');
const path = require('path');
const msgpackr = require('msgpackr');
const { MemoryPool, serializers } = require('../..');
const { thrown } = require('./helpers');

const pool = new MemoryPool({ leak_check: 'paranoid' });
const json = new serializers.JsonSerializer(pool);
const pack = new serializers.MessagePackSerializer(pool);
const both = [['JSON', json], ['MessagePack', pack]];

const MESSAGE = { id: 7, name: 'Zoë 日本 😀', price: 12.5, tags: ['a', 'b'], none: null, yes: true, deep: { a: [{ b: -1 }] } };

afterEach(() => expect(pool.stats().current).toBe(0));
afterAll(() => pool.close());

function refusal(body) {
  const { code, message } = thrown(body);
  expect(code).toBe('ERR_MEMGUARD_ENCODING');
  return message;
}

describe.each(both)('%s', (name, serializer) => {
  const plain = serializer === json ? (value) => Buffer.from(JSON.stringify(value)) : (value) => serializer.serialize(value);
  const expected = plain(MESSAGE);

  test('every way gives the same bytes', () => {
    expect(serializer.serialize(MESSAGE)).toEqual(expected);
    for (const method of ['serializePooled', 'serializeToMemory']) {
      const rental = serializer[method](MESSAGE);
      expect(rental.length).toBe(expected.length);
      expect(rental.buffer.equals(expected)).toBe(true);
      expect(serializer.deserialize(rental)).toEqual(MESSAGE);
      rental.return();
    }
    const destination = Buffer.alloc(expected.length);
    expect(serializer.trySerialize(MESSAGE, destination)).toBe(expected.length);
    expect(destination).toEqual(expected);
  });

  test('into a writer, one after the other', () => {
    const writer = serializer.getPooledWriter();
    expect(serializer.serializeInto(MESSAGE, writer)).toBe(expected.length);
    serializer.serializeInto([1], writer);
    expect(writer.written.subarray(0, expected.length).equals(expected)).toBe(true);
    expect(writer.writtenCount).toBe(expected.length + plain([1]).length);
    const rental = writer.detach();
    expect(serializer.deserialize(rental.buffer.subarray(expected.length))).toEqual([1]);
    rental.return();
  });

  test('into a destination that is too small nothing is written', () => {
    const destination = Buffer.alloc(expected.length - 1, '.');
    expect(serializer.trySerialize(MESSAGE, destination)).toBeNull();
    expect(destination.every((byte) => byte === 46)).toBe(true);
    const larger = Buffer.alloc(expected.length + 5, '.');
    expect(serializer.trySerialize(MESSAGE, larger)).toBe(expected.length);
    expect(larger.subarray(expected.length).toString()).toBe('.....');
    expect(serializer.trySerialize(MESSAGE, new Uint8Array(3))).toBeNull();
    expect(thrown(() => serializer.trySerialize(MESSAGE, 'text')).code).toBe('ERR_MEMGUARD_TYPE');
  });

  test('values larger than any buffer kept for them', () => {
    for (const text of ['x'.repeat(300000), '日'.repeat(100000), '😀'.repeat(600000)]) {
      const rental = serializer.serializePooled({ text });
      expect(serializer.deserialize(rental).text === text).toBe(true);
      rental.return();
      expect(serializer.deserialize(serializer.serialize([text]))[0] === text).toBe(true);
    }
    expect(serializer.deserialize(serializer.serialize(MESSAGE))).toEqual(MESSAGE);
  });

  test('a result is not changed by later ones', () => {
    const first = serializer.serialize(MESSAGE);
    const kept = serializer.serializePooled(MESSAGE);
    for (let count = 0; count < 100; count++) serializer.serialize({ other: 'y'.repeat(count * 50) });
    expect(first).toEqual(expected);
    expect(kept.buffer.equals(expected)).toBe(true);
    kept.return();
  });

  test('a toJSON() that serializes on its own', () => {
    class Inner {
      toJSON() {
        return { length: serializer.serialize([1, 2, 3]).length };
      }
    }
    const inner = new Inner();
    const length = plain([1, 2, 3]).length;
    expect(serializer.deserialize(serializer.serialize({ before: 'b', inner, after: 'a' }))).toEqual({
      before: 'b', inner: { length }, after: 'a',
    });
  });

  test('what cannot be serialized is named by its type, never by its value', () => {
    const ring = { secret: 'hidden' };
    ring.ring = ring;
    class Order {
      self = this;
    }
    expect(refusal(() => serializer.serialize(undefined))).toBe(`undefined cannot become ${name}`);
    expect(refusal(() => serializer.serializePooled(() => 1))).toBe(`a function cannot become ${name}`);
    expect(refusal(() => serializer.serialize(Symbol('hidden')))).toBe(`a symbol cannot become ${name}`);
    expect(refusal(() => serializer.serialize(ring))).toMatch(/^an object of type Object (nested too deep or )?inside itself cannot/);
    expect(refusal(() => serializer.serialize(new Order()))).toContain('an object of type Order ');
    expect(refusal(() => serializer.serialize({ a: [2n ** 64n] }))).toBe(`a bigint inside an object of type Object cannot become ${name}`);
    expect(refusal(() => serializer.trySerialize(ring, Buffer.alloc(10)))).not.toContain('hidden');
    class Failing {
      toJSON() {
        throw new Error('of the host');
      }
    }
    expect(thrown(() => serializer.serialize(new Failing())).cause.message).toBe('of the host');
    expect(serializer.deserialize(serializer.serialize(MESSAGE))).toEqual(MESSAGE);
  });

  test('only bytes are deserialized', () => {
    for (const value of ['text', 5, null, undefined, {}]) {
      expect(thrown(() => serializer.deserialize(value)).code).toBe('ERR_MEMGUARD_TYPE');
    }
  });

  test('a rental that was returned is no message', () => {
    const rental = serializer.serializePooled(MESSAGE);
    rental.return();
    expect(thrown(() => serializer.deserialize(rental)).code).toBe('ERR_MEMGUARD_RETURNED');
  });

  test('another process reads it with the plain library', () => {
    const script = `
      const chunks = [];
      process.stdin.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
        const bytes = Buffer.concat(chunks);
        console.log(JSON.stringify(${serializer === json ? 'JSON.parse(bytes)' : "require('msgpackr').unpack(bytes)"}));
      });`;
    const input = serializer.serialize(MESSAGE);
    const text = execFileSync(process.execPath, ['-e', script], { input, encoding: 'utf8', timeout: 30000, cwd: path.join(__dirname, '..', '..') });
    expect(JSON.parse(text)).toEqual(MESSAGE);
  });
});

describe('malformed JSON is refused at its byte', () => {
  test.each([
    ['', 0], [' ', 1], ['{', 1], ['{"a":x}', 5], ['{"a":1', 6], ['[1,]', 3], ['[1 2]', 3], ['{"é":tru}', 6], ['"a\u0001"', 2],
    ['[1] 2', 4], ['{"a" 1}', 5], ['01', 1], ['{1:2}', 1], ['{"a":1,}', 7], ['"\\x"', 1], ['"\\u12g4"', 1], ['"ab', 3], ['-', 0],
    ['1.', 1], ['1e', 1], ['[1}', 2], [']', 0], ['nul', 0], ['{"a":[{"b":"日", c}]}', 18], ["{'a':1}", 1],
  ])('%j', (text, at) => {
    expect(() => JSON.parse(text)).toThrow(SyntaxError);
    const message = refusal(() => json.deserialize(Buffer.from(text)));
    expect(message).toMatch(new RegExp(`^not JSON: byte ${at}: `));
  });

  test('also if it is not UTF-8', () => {
    expect(refusal(() => json.deserialize(Buffer.from('5b22ff225d', 'hex')))).toContain('byte 2 ');
  });

  test('what it says quotes nothing', () => {
    expect(refusal(() => json.deserialize(Buffer.from('{"password": hidden}')))).not.toMatch(/hidden|password/);
  });
});

describe('malformed MessagePack is refused at its byte', () => {
  test.each([
    ['', 0], ['c1', 0], ['92', 1], ['9201', 2], ['a561', 0], ['0102', 1], ['81a161c1', 3], ['81a161', 3], ['dc', 0], ['cb00', 0],
    ['92a161c403', 3], ['df00000001', 5], ['dd7fffffff', 5], ['c80001', 0], ['d4', 0],
  ])('%s', (hex, at) => {
    expect(refusal(() => pack.deserialize(Buffer.from(hex, 'hex')))).toMatch(new RegExp(`^not MessagePack: byte ${at}: `));
  });

  test('c1 inside of what is counted is no mistake', () => {
    const value = { a: Buffer.from('c1c1', 'hex'), b: 0xc1c1c1c1, c: '\u00c1' };
    expect(pack.deserialize(pack.serialize(value))).toEqual(value);
  });
});

describe('MessagePack', () => {
  test('has no extension that others do not read', () => {
    const value = { undefined, time: new Date(1700000000000), bytes: Buffer.from('abc'), big: 2n ** 60n, small: 5n };
    const found = pack.deserialize(pack.serialize(value));
    expect(found.undefined).toBeNull();
    expect(found.time).toEqual(new Date(1700000000000));
    expect(found.bytes).toEqual(Buffer.from('abc'));
    expect(found.big).toBe(2n ** 60n);
    expect(found.small).toBe(5);
  });

  test('bytes are copied, or views if asked for', () => {
    const rental = pack.serializePooled({ bytes: Buffer.from('abc') });
    const views = new serializers.MessagePackSerializer(pool, { copyBuffers: false });
    const copied = pack.deserialize(rental).bytes;
    const viewed = views.deserialize(rental).bytes;
    rental.buffer.fill(0x7a);
    expect(Buffer.from(copied).toString()).toBe('abc');
    expect(Buffer.from(viewed).toString()).toBe('zzz');
    rental.return();
  });

  test('a program may use msgpackr itself in between', () => {
    const own = new msgpackr.Packr();
    const made = [];
    for (let count = 0; count < 200; count++) {
      made.push([own.pack({ count, text: 'own'.repeat(count % 7) }), { count, text: 'own'.repeat(count % 7) }]);
      pack.serialize({ ours: 'x'.repeat(count * 10) });
      msgpackr.pack({ also: count });
    }
    for (const [bytes, value] of made) expect(own.unpack(bytes)).toEqual(value);
  });

  test('numbers keep their value', () => {
    const numbers = [0, -1, 127, 128, 65535, 65536, 2 ** 31, 2 ** 32, 2 ** 53 - 1, -(2 ** 53) + 1, 0.1, 1e300, Infinity];
    expect(pack.deserialize(pack.serialize(numbers))).toEqual(numbers);
  });
});
