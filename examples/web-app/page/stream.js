// An answer as it comes, in an element of the page. Its text is set as text: whatever a model writes stays text.

import { chat } from './tollhouse.js'

const REPAINT_MS = 50

/**
 * Asks, and shows the answer in `place` as it comes; at the end it is `{text, note}`. Stop (the signal) keeps what came.
 * Throws Refusal; what came before it stays on the page too.
 */
export async function answerInto(place, messages, signal) {
  let text = ''
  let note = ''
  let paid = ''
  let painting = 0
  const paint = () => {
    painting = 0
    const follow = place.getBoundingClientRect().bottom <= innerHeight
    place.textContent = text
    if (follow) place.scrollIntoView({ block: 'nearest' })
  }
  place.setAttribute('aria-busy', 'true')
  try {
    for await (const piece of chat(messages, signal)) {
      if (piece.paidBy === 'own') paid = 'Your own key paid.'
      if (piece.cut) note = 'This answer ends here because it is as long as an answer may be.'
      text += piece.text ?? ''
      painting ||= setTimeout(paint, REPAINT_MS)
    }
  } catch (error) {
    if (error.name !== 'AbortError') throw error
    note = 'Stopped.'
  } finally {
    clearTimeout(painting)
    paint()
    place.removeAttribute('aria-busy')
  }
  return { text, note: [note, paid].filter(Boolean).join(' ') }
}

/** While `work(signal)` runs, the form shows Stop in the place of its main button. */
export async function stoppable(form, work) {
  const stop = part(form, 'stop')
  const start = part(form, 'start')
  const aborter = new AbortController()
  stop.onclick = () => aborter.abort()
  change(start, stop)
  try {
    await work(aborter.signal)
  } finally {
    change(stop, start)
  }
}

/** One button gives way to another, and the focus with it. */
function change(from, to) {
  const focused = from === document.activeElement
  from.hidden = true
  to.hidden = false
  if (focused) to.focus()
}

/** The element in another that has this part in it (`data-role`). */
export const part = (element, role) => element.querySelector(`[data-role=${role}]`)

export const fromTemplate = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true)
