// The chat: one conversation, kept in this page and nowhere else. Each question sends all of it.

import { answerInto, fromTemplate, part, stoppable } from './stream.js'
import { refreshLeft } from './left.js'
import { refusalBox } from './words.js'

const MAX_SENT = 40
/** Earlier messages are no longer sent. Even: what is sent begins with a question. */

const turns = document.getElementById('turns')
const composer = document.getElementById('composer')
const message = document.getElementById('message')
const empty = document.getElementById('chat-empty')

let conversation = []
let running = false

export function startChat() {
  composer.addEventListener('submit', (event) => {
    event.preventDefault()
    const question = message.value.trim()
    if (!question || running) return
    message.value = ''
    ask(question)
  })
  message.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault()
      composer.requestSubmit()
    }
  })
  document.getElementById('new-chat').addEventListener('click', () => {
    clearChat()
    message.focus()
  })
}

export function clearChat() {
  part(composer, 'stop').click() // an answer under way belongs to what is cleared
  conversation = []
  turns.replaceChildren()
  empty.hidden = false
}

function ask(question) {
  empty.hidden = true
  part(addTurn('You', 'user'), 'text').textContent = question
  answer(conversation, { role: 'user', content: question })
}

/** What was answered becomes part of the conversation, with its question; what was not can be tried again. */
async function answer(earlier, question) {
  const turn = addTurn('Answer', 'assistant')
  running = true
  try {
    await stoppable(composer, async (signal) => {
      const { text, note } = await answerInto(part(turn, 'text'), [...earlier.slice(-MAX_SENT), question], signal)
      part(turn, 'note').textContent = note
      if (text) earlier.push(question, { role: 'assistant', content: text })
    })
  } catch (error) {
    const again = () => {
      turn.remove()
      answer(earlier, question)
    }
    turn.append(refusalBox(error, again))
    turn.scrollIntoView({ block: 'nearest' })
  } finally {
    running = false
    refreshLeft()
  }
}

function addTurn(who, role) {
  const turn = fromTemplate('turn')
  turn.classList.add(role)
  part(turn, 'who').textContent = who
  turns.append(turn)
  turn.scrollIntoView({ block: 'nearest' })
  return turn
}
