// The parts of node that tests use.
declare module "node:test" {
  export function test(name: string, body: () => void): void;
}
declare module "node:assert/strict" {
  function equal(actual: unknown, expected: unknown, message?: string): void;
  function deepEqual(actual: unknown, expected: unknown, message?: string): void;
  function ok(value: unknown, message?: string): void;
  const assert: { equal: typeof equal; deepEqual: typeof deepEqual; ok: typeof ok };
  export default assert;
}
