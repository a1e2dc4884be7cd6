// Scores results of http-tests/cache-tests as the suite itself does: a test passes only if what it depends on passes.
//
//   node bench/cache-tests.mjs SUITE RESULTS [--json] [--failed]
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [suite, file, ...flags] = process.argv.slice(2)
const load = (path) => import(pathToFileURL(`${suite}/${path}`))
const { default: suites } = await load('tests/index.mjs')
const { determineTestResult, resultTypes } = await load('test-engine/lib/results.mjs')
const results = JSON.parse(readFileSync(file))
const names = new Map(Object.entries(resultTypes).map(([name, value]) => [value, name]))

const kinds = { required: { passed: 0, tests: 0 }, optimal: { passed: 0, tests: 0 }, check: { passed: 0, tests: 0 } }
const failed = []
for (const { tests } of suites) {
  for (const { id, kind = 'required', browser_only: browserOnly } of tests) {
    if (browserOnly) continue
    const outcome = names.get(determineTestResult(suites, id, results))
    const isPassed = outcome === (kind === 'check' ? 'yes' : 'pass')
    kinds[kind].tests += 1
    kinds[kind].passed += isPassed ? 1 : 0
    if (!isPassed && kind !== 'check') failed.push({ id, kind, outcome })
  }
}
if (flags.includes('--json')) {
  console.log(JSON.stringify({ schema: 'nearcast.cache-tests/1', ...kinds, failed }))
} else {
  for (const [kind, { passed, tests }] of Object.entries(kinds)) console.log(`${kind.padEnd(9)} ${passed} of ${tests}`)
  if (flags.includes('--failed')) failed.forEach(({ id, kind, outcome }) => console.log(`${kind} ${outcome} ${id}`))
}
