// Which plan holds, whose key pays, and what is left of each limit and each budget, as Tollhouse counts it.

import { dateOf, me } from './tollhouse.js'
import { fromTemplate, part } from './stream.js'
import { tell, whenever } from './words.js'

const WINDOWS = {
  minute: 'this minute',
  hour: 'this hour',
  '5h': 'these five hours',
  day: 'today',
  week: 'this week',
  month: 'this month',
  total: 'in all',
}

/**
 * Asks anew, and shows it in the view and wherever else there is room for it (`data-plan`, `data-payer`, `data-left`).
 * Returns what `me` told; null when there was no answer.
 */
export async function refreshLeft() {
  const told = document.getElementById('left-refusal')
  try {
    const now = await me()
    const { limits, budgets } = now
    const rows = [...limits.flatMap(({ scope, left }) => left.map((limit) => ofLimit(scope, limit))), ...budgets.map(ofBudget)]
    everywhere('[data-plan]', planInWords(now))
    everywhere('[data-payer]', payerInWords(now))
    document.getElementById('meters').replaceChildren(...rows.map(meter))
    const line = rows.length ? `Left: ${rows.map((row) => row.short).join(' · ')}` : ''
    everywhere('[data-left]', line)
    tell(told, null)
    return now
  } catch (error) {
    tell(told, error)
    return null
  }
}

function everywhere(places, words) {
  for (const place of document.querySelectorAll(places)) place.textContent = words
}

/** Limits follow whose key pays: who is on a plan for own keys and has none is on another one until then. */
function planInWords({ user, plan }) {
  if (!plan) return ''
  const waiting = user.plan_id && user.plan_id !== plan.plan_id
  if (waiting) return `You are on “${user.plan_id}”. Until you store a key of your own, “${plan.plan_id}” holds.`
  return `Your plan is “${plan.plan_id}”. ${plan.description}`
}

function payerInWords({ paid_by, provider, max_output_tokens }) {
  if (paid_by === null) return 'Nobody’s key pays for your calls: your plan wants one of your own.'
  if (paid_by !== 'own') return 'This application pays for your calls.'
  const length = max_output_tokens ? ` An answer may have up to ${max_output_tokens.toLocaleString()} tokens.` : ''
  return `Your own key for ${provider} pays for your calls.${length}`
}

function ofLimit(scope, { kind, limit, remaining, resets_at }) {
  const [unit, window] = kind === 'parallel_requests' ? ['requests', ''] : kind.split('_per_')
  return row(scope, unit, WINDOWS[window] ?? 'at a time', limit, remaining, resets_at)
}

function ofBudget({ scope, unit, window, limit, remaining, resets_at }) {
  return row(scope, unit === 'usd' ? 'USD' : unit, WINDOWS[window], Number(limit), Number(remaining), resets_at)
}

function row(scope, unit, when, limit, remaining, resetsAt) {
  const left = Math.max(0, remaining)
  const whose = scope === 'user' ? '' : ` (${scope})`
  return {
    what: `${unit[0].toUpperCase()}${unit.slice(1)} ${when}${whose}`,
    amount: `${left.toLocaleString()} of ${limit.toLocaleString()} left`,
    short: `${left.toLocaleString()} ${unit} ${when}${whose}`,
    until: resetsAt && left < limit ? `All of it again ${whenever(dateOf(resetsAt))}.` : '',
    limit,
    left,
  }
}

function meter(row) {
  const item = fromTemplate('meter')
  for (const name of ['what', 'amount', 'until']) part(item, name).textContent = row[name]
  const bar = part(item, 'meter')
  Object.assign(bar, { max: row.limit, low: row.limit / 5, high: row.limit / 5, optimum: row.limit, value: row.left })
  bar.setAttribute('aria-label', row.what)
  return item
}
