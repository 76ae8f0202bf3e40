// How checks are run and told of. What must be quick is printed with how quick it was; that it was is only asked for where the
// machine is known to have nothing else to do (RIALTO_PAGE_STRICT=1).

import assert from "node:assert/strict";

const isStrict = process.env.RIALTO_PAGE_STRICT === "1";
const only = process.env.RIALTO_PAGE_ONLY;
export const outcome = { passed: 0, failed: 0, skipped: 0 };

/** @param {string} name @param {() => Promise<void>} run */
export async function check(name, run) {
  if (only && !new RegExp(only).test(name)) { outcome.skipped += 1; return; }
  const began = performance.now();
  try {
    await run();
    outcome.passed += 1;
    console.log(`ok    ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    outcome.failed += 1;
    console.log(`FAIL  ${name}: ${error.stack}`);
  }
}

/** @param {string} what @param {number} ms @param {number} wanted */
export function quick(what, ms, wanted) {
  console.log(`      ${what}: ${ms.toFixed(0)} ms (wanted: ${wanted})`);
  if (isStrict) assert.ok(ms <= wanted, `${what}: ${ms} ms`);
}
