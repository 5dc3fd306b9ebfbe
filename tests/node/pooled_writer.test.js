'use strict';

// PooledBufferWriter.
const { MemoryPool, PooledBufferWriter } = require('../..');
const { thrown } = require('./helpers');

let pool;

beforeEach(() => {
  pool = new MemoryPool({ leak_check: 'paranoid' }, { environment: false });
});

afterEach(() => {
  expect(pool.stats()).toMatchObject({ current: 0, currentBytes: 0, lost: 0 });
  expect(pool.findings()).toEqual([]);
  pool.close();
});

function use(writer, body) {
  expect(writer).toBeInstanceOf(PooledBufferWriter);
  try {
    body(writer);
  } finally {
    writer.dispose();
  }
}

test('bytes of any kind', () => {
  use(pool.rentWriter(), (writer) => {
    expect(writer.write(Buffer.from('ab'))).toBe(2);
    expect(writer.write(new Uint16Array([0x6463, 0x6665]).subarray(1))).toBe(2);
    expect(writer.write(new DataView(new ArrayBuffer(3), 1, 1))).toBe(1);
    expect(writer.write(new Uint8Array([1, 2]).buffer)).toBe(2);
    expect(writer.write(Buffer.alloc(0))).toBe(0);
    expect([...writer.written]).toEqual([97, 98, 101, 102, 0, 1, 2]);
    expect(writer.writtenCount).toBe(7);
  });
});

test('it grows by doubling, and keeps what was written', () => {
  use(pool.rentWriter(10), (writer) => {
    const capacities = [writer.capacity];
    for (let count = 0; count < 1000; count++) {
      writer.write(Buffer.from([count % 256]));
      if (writer.capacity !== capacities.at(-1)) capacities.push(writer.capacity);
    }
    expect(capacities).toEqual([64, 128, 256, 512, 1024]);
    expect(writer.written.every((byte, index) => byte === index % 256)).toBe(true);
    expect(writer.written).toHaveLength(1000);
    expect(pool.stats()).toMatchObject({ rented: 5, current: 1 });
    writer.write(Buffer.alloc(3000000, 5));
    expect(writer.writtenCount).toBe(3001000);
  });
});

test('spans', () => {
  use(pool.rentWriter(100), (writer) => {
    expect(writer.getSpan()).toHaveLength(128);
    writer.getSpan(5).fill('x', 0, 5);
    writer.advance(5);
    writer.advance(0);
    expect(writer.getSpan()).toHaveLength(123);
    expect(writer.getSpan(500).length).toBeGreaterThanOrEqual(500);
    expect(writer.written.toString()).toBe('xxxxx');
    const { length } = writer.getSpan();
    expect(thrown(() => writer.advance(length + 1)).code).toBe('ERR_MEMGUARD_RANGE');
    writer.advance(length);
    expect(writer.getSpan().length).toBeGreaterThan(0);
    writer.clear();
    expect(writer.writtenCount).toBe(0);
  });
});

test('what it writes may be its own', () => {
  use(pool.rentWriter(64), (writer) => {
    writer.write(Buffer.from('abcd'.repeat(16)));
    writer.write(writer.written);
    writer.write(writer.written.subarray(1, 3));
    expect(writer.written.toString()).toBe(`${'abcd'.repeat(32)}bc`);
  });
});

test('past maxBytes nothing is written', () => {
  use(pool.rentWriter(10, 100), (writer) => {
    writer.write(Buffer.alloc(90, 1));
    for (const call of [() => writer.write(Buffer.alloc(11)), () => writer.getSpan(11), () => writer.getSpan(2 ** 41)]) {
      const error = thrown(call);
      expect([error instanceof RangeError, error.code]).toEqual([true, 'ERR_MEMGUARD_RANGE']);
    }
    expect(writer.writtenCount).toBe(90);
    expect(writer.capacity).toBe(100);
    expect(writer.getSpan()).toHaveLength(10);
    writer.write(Buffer.alloc(10, 2));
    expect(thrown(() => writer.getSpan()).message).toBe('1 bytes after 100 are more than maxBytes, which is 100');
    expect(writer.written[99]).toBe(2);
  });
  use(pool.rentWriter(1000, 100), (writer) => expect(writer.capacity).toBe(100));
});

test('detach() moves the memory out', () => {
  const writer = pool.rentWriter();
  writer.write(Buffer.from('hello'));
  const { written } = writer;
  const rental = writer.detach();
  expect([rental.length, rental.capacity, rental.buffer.toString()]).toEqual([5, 256, 'hello']);
  expect(rental.buffer.byteOffset).toBe(written.byteOffset);
  expect(thrown(() => writer.write(Buffer.alloc(1))).code).toBe('ERR_MEMGUARD_CLOSED');
  writer.dispose();
  expect(pool.stats()).toMatchObject({ rented: 1, current: 1 });
  rental.return();
  const empty = pool.rentWriter().detach();
  expect(empty.buffer).toHaveLength(0);
  pool.return(empty);
  expect(thrown(() => empty.buffer).code).toBe('ERR_MEMGUARD_RETURNED');
});

test('the end is idempotent, and an end', () => {
  for (const end of ['dispose', 'return', 'close']) {
    const writer = pool.rentWriter();
    writer[end]();
    writer.dispose();
    writer.return();
    writer.close();
    if (typeof Symbol.dispose === 'symbol') writer[Symbol.dispose]();
    for (const call of [
      () => writer.write(Buffer.alloc(1)), () => writer.getSpan(), () => writer.advance(0), () => writer.clear(), () => writer.detach(),
      () => writer.written, () => writer.writtenCount, () => writer.capacity,
    ]) expect(thrown(call).code).toBe('ERR_MEMGUARD_CLOSED');
  }
  expect(pool.stats()).toMatchObject({ rented: 3, returned: 3, doubleReturns: 0 });
});

test.each([
  [() => pool.rentWriter(-1), 'RANGE'], [() => pool.rentWriter(1.5), 'RANGE'], [() => pool.rentWriter('5'), 'TYPE'],
  [() => pool.rentWriter(NaN), 'RANGE'], [() => pool.rentWriter(5, 0), 'RANGE'], [() => pool.rentWriter(5, null), 'TYPE'],
  [() => pool.rentWriter(2 ** 40), 'NO_MEMORY'],
])('bad input: %s', (call, code) => {
  expect(thrown(call).code).toBe(`ERR_MEMGUARD_${code}`);
});

test('bad input to an open one', () => {
  use(pool.rentWriter(), (writer) => {
    for (const value of ['text', 5, null, undefined, [1], {}]) {
      expect(thrown(() => writer.write(value)).code).toBe('ERR_MEMGUARD_TYPE');
    }
    for (const value of [-1, 1.5, NaN, Infinity]) {
      expect(thrown(() => writer.getSpan(value)).code).toBe('ERR_MEMGUARD_RANGE');
      expect(thrown(() => writer.advance(value)).code).toBe('ERR_MEMGUARD_RANGE');
    }
    expect(thrown(() => writer.advance('1')).code).toBe('ERR_MEMGUARD_TYPE');
    expect(writer.writtenCount).toBe(0);
  });
});

test('without memory to grow it keeps what it has', () => {
  use(pool.rentWriter(), (writer) => {
    writer.write(Buffer.from('kept'));
    expect(thrown(() => writer.getSpan(2 ** 40 - 100)).code).toBe('ERR_MEMGUARD_NO_MEMORY');
    expect(writer.written.toString()).toBe('kept');
  });
});
