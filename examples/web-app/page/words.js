// Refusals in words: which limit, until when, and what to do.

import { fromTemplate, part } from './stream.js'
import { Refusal } from './tollhouse.js'

const PER = {
  requests_per_minute: ['That was all for this minute', 'requests per minute'],
  tokens_per_minute: ['That was all for this minute', 'tokens per minute'],
  requests_per_day: ['That was all for today', 'requests per day'],
  requests_per_month: ['That was all for this month', 'requests per month'],
  parallel_requests: ['Another answer is still being written', 'answers at a time'],
}
const OWN_KEY = {
  own_key_refused: ['Your own key was refused', 'Its provider does not take it, or has no credit left on it.'],
  own_key_required: ['This wants a key of your own', 'Calls of your plan are paid by a key that you store.'],
  own_key_unusable: ['Your own key cannot be used', 'It does not open any more. Store it again.'],
}
const UNITS = { usd: 'US dollars', tokens: 'tokens', requests: 'requests' }
const LONG_S = 300
/** Beyond these seconds a page does not count down. */

/** `{title, words}` of anything that went wrong. */
export function inWords(error) {
  if (!(error instanceof Refusal)) return { title: 'Something went wrong here', words: error.message }
  const until = error.againAt ? ` You can go on ${whenever(error.againAt)}.` : ''
  if (error.limitKind in PER) {
    const [title, unit] = PER[error.limitKind]
    const whose = /^(own key of )?user /.test(error.scope) ? 'Your plan' : `The ${error.scope}`
    return { title, words: `${whose} has ${error.limit.toLocaleString()} ${unit}, and they are used.${until}` }
  }
  if (error.code in OWN_KEY) return { title: OWN_KEY[error.code][0], words: `${OWN_KEY[error.code][1]} See “Your key”.` }
  if (error.status === 401) return { title: 'You are signed out', words: error.message }
  if (error.code === 'csrf') {
    return { title: 'This page is out of date', words: 'Somebody has signed in anew in another window. Reload the page.' }
  }
  if (error.status === 402) {
    const whose = error.scope.startsWith('user ') ? 'your' : `those of the ${error.scope}:`
    const words = `Of ${whose} ${error.limit.toLocaleString()} ${UNITS[error.unit]}, too few are left for this.${until}`
    return { title: 'The budget has no room for this', words }
  }
  if (error.status === 429) return { title: 'Too much at once', words: error.message + until }
  if (error.status >= 500 || error.code === 'offline') return { title: 'No answer came', words: error.message + until }
  return { title: 'That did not work', words: error.message }
}

/** `at 14:05:10`, `tomorrow at 00:00`, `on 1 December at 00:00`, in the reader's own time. */
export function whenever(date) {
  const soon = date - Date.now() < LONG_S * 1000
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: soon ? '2-digit' : undefined })
  const days = Math.round((midnight(date) - midnight(new Date())) / 86_400_000)
  if (days === 0) return `at ${time}${soon ? ` (in ${secondsTo(date)} s)` : ''}`
  if (days === 1) return `tomorrow at ${time}`
  return `on ${date.toLocaleDateString([], { day: 'numeric', month: 'long' })} at ${time}`
}

const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate())
const secondsTo = (date) => Math.max(0, Math.ceil((date - Date.now()) / 1000))

/**
 * A box that tells what went wrong, with a button that calls `again`. While a short wait is needed the button counts
 * down; the words stand still, so that a screen reader says them once.
 */
export function refusalBox(error, again) {
  const box = fromTemplate('refusal')
  const { title, words } = inWords(error)
  part(box, 'title').textContent = title
  part(box, 'words').textContent = words
  const button = part(box, 'again')
  if (error.code in OWN_KEY) {
    button.textContent = 'Your key'
    button.onclick = () => (location.hash = '#key')
    return box
  }
  if (error.status === 401 || error.code === 'csrf') {
    button.textContent = error.status === 401 ? 'Sign in' : 'Reload'
    button.onclick = () => location.reload()
    return box
  }
  button.hidden = error.againAt !== null && secondsTo(error.againAt) > LONG_S
  button.onclick = () => {
    box.remove()
    again()
  }
  const tick = () => {
    const wait = error.againAt ? secondsTo(error.againAt) : 0
    button.disabled = wait > 0
    button.textContent = wait > 0 ? `Try again in ${wait} s` : 'Try again'
    if (wait === 0) clearInterval(ticking)
  }
  const ticking = setInterval(tick, 250)
  tick()
  return box
}

/** Shows (or, without an error, clears) what went wrong in a paragraph that is there for it. */
export function tell(paragraph, error) {
  paragraph.hidden = !error
  paragraph.textContent = error ? inWords(error).words : ''
}
