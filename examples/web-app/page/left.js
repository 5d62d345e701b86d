// What is left of each limit and each budget, as Tollhouse counts it.

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

/** Asks anew, and shows it in the view and in a line wherever there is room for one (`data-left`). */
export async function refreshLeft() {
  const told = document.getElementById('left-refusal')
  try {
    const { plan, limits, budgets } = await me()
    const rows = [...limits.flatMap(({ scope, left }) => left.map((limit) => ofLimit(scope, limit))), ...budgets.map(ofBudget)]
    document.getElementById('plan').textContent = plan ? `Your plan is “${plan.plan_id}”. ${plan.description}` : ''
    document.getElementById('meters').replaceChildren(...rows.map(meter))
    const line = rows.length ? `Left: ${rows.map((row) => row.short).join(' · ')}` : ''
    for (const place of document.querySelectorAll('[data-left]')) place.textContent = line
    tell(told, null)
  } catch (error) {
    tell(told, error)
  }
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
