// Flows: the list, the editor, and the run of one. The back end keeps them (`/flows`); the page runs them, step by step.

import { answerInto, fromTemplate, part, stoppable } from './stream.js'
import { call } from './tollhouse.js'
import { inputsOf, filledIn } from './prompts.js'
import { refreshLeft } from './left.js'
import { refusalBox, tell } from './words.js'

const EXAMPLE = {
  name: 'From topic to title',
  steps: [
    { name: 'outline', prompt: 'Write an outline of three points about {{topic}}.' },
    { name: 'title', prompt: 'Write one short title for a text with this outline:\n\n{{outline}}' },
  ],
}

const list = document.getElementById('flow-list')
const editor = document.getElementById('editor')
const steps = document.getElementById('steps')
const saved = document.getElementById('saved')
const runner = document.getElementById('runner')
const inputs = document.getElementById('inputs')
const answers = document.getElementById('answers')
const told = document.getElementById('flows-refusal')

let flows = []
let open = null
/** The flow in the editor; without `id` until it is saved. */
let running = false

export function startFlows() {
  document.getElementById('new-flow').addEventListener('click', () => {
    edit(structuredClone(EXAMPLE))
    editor.elements.name.focus()
  })
  document.getElementById('add-step').addEventListener('click', () => {
    steps.append(stepRow({ name: '', prompt: '' }))
    changed()
    part(steps.lastElementChild, 'name').focus()
  })
  document.getElementById('delete-flow').addEventListener('click', remove)
  editor.addEventListener('input', changed)
  editor.addEventListener('submit', save)
  runner.addEventListener('submit', (event) => {
    event.preventDefault()
    if (!running && editor.reportValidity()) run()
  })
}

/** Forgets whatever is here and asks for the flows of who is here now. */
export async function loadFlows() {
  clearFlows()
  try {
    flows = (await (await call('GET', '/flows')).json()).items
    tell(told, null)
  } catch (error) {
    tell(told, error)
  }
  showList()
}

export function clearFlows() {
  part(runner, 'stop').click()
  flows = []
  open = null
  editor.hidden = runner.hidden = true
  showList()
}

function showList() {
  list.replaceChildren(...flows.map((flow) => {
    const button = document.createElement('button')
    button.textContent = flow.name
    button.setAttribute('aria-current', flow.id === open?.id)
    button.addEventListener('click', () => edit(flow))
    const row = document.createElement('li')
    row.append(button)
    return row
  }))
  document.getElementById('flows-empty').hidden = flows.length > 0 || open !== null
}

// The editor

function edit(flow) {
  part(runner, 'stop').click()
  open = flow
  editor.elements.name.value = flow.name
  steps.replaceChildren(...flow.steps.map(stepRow))
  answers.replaceChildren()
  inputs.replaceChildren()
  editor.hidden = runner.hidden = false
  tell(part(editor, 'refusal'), null)
  changed()
  saved.textContent = flow.id ? '' : 'Not saved yet.'
  showList()
}

function stepRow({ name, prompt }) {
  const row = fromTemplate('step')
  part(row, 'name').value = name
  part(row, 'prompt').value = prompt
  const on = (role, act) => part(row, role).addEventListener('click', () => {
    act()
    changed()
  })
  on('up', () => row.previousElementSibling?.before(row))
  on('down', () => row.nextElementSibling?.after(row))
  on('remove', () => {
    row.remove()
    document.getElementById('add-step').focus()
  })
  return row
}

/** The flow as it stands in the editor. */
const edited = () => ({
  name: editor.elements.name.value.trim(),
  steps: [...steps.children].map((row) => ({ name: part(row, 'name').value.trim(), prompt: part(row, 'prompt').value })),
})

/** Numbers the steps, and asks for what the prompts now name; what was filled in stays. */
function changed() {
  saved.textContent = 'Not saved yet.'
  ;[...steps.children].forEach((row, index) => {
    part(row, 'number').textContent = index + 1
    for (const act of ['up', 'down', 'remove']) part(row, act).setAttribute('aria-label', `Step ${index + 1}: ${act}`)
    part(row, 'up').disabled = index === 0
    part(row, 'down').disabled = index === steps.children.length - 1
    part(row, 'remove').disabled = steps.children.length === 1
  })
  const before = given()
  inputs.replaceChildren(...inputsOf(edited().steps).map((name) => {
    const field = fromTemplate('input')
    part(field, 'label').textContent = name
    const text = part(field, 'text')
    text.name = name
    text.value = before[name] ?? ''
    return field
  }))
}

const given = () => Object.fromEntries([...inputs.querySelectorAll('textarea')].map((text) => [text.name, text.value]))

async function save(event) {
  event.preventDefault()
  try {
    const [method, path] = open.id ? ['PUT', `/flows/${encodeURIComponent(open.id)}`] : ['POST', '/flows']
    const kept = await (await call(method, path, edited())).json()
    flows = [kept, ...flows.filter((flow) => flow.id !== kept.id)]
    open = kept
    saved.textContent = 'Saved.'
    tell(part(editor, 'refusal'), null)
    showList()
  } catch (error) {
    tell(part(editor, 'refusal'), error)
  }
}

async function remove() {
  try {
    if (open.id) await call('DELETE', `/flows/${encodeURIComponent(open.id)}`)
    flows = flows.filter((flow) => flow !== open)
    open = null
    editor.hidden = runner.hidden = true
    showList()
    document.getElementById('new-flow').focus()
  } catch (error) {
    tell(part(editor, 'refusal'), error)
  }
}

// The run

/** Runs what is in the editor, saved or not. */
function run() {
  answers.replaceChildren()
  runFrom(0, edited().steps, given())
}

/** The steps from this one on. `values`: what was asked for, and each answer so far under its step's name. */
async function runFrom(first, all, values) {
  let at = first
  running = true
  part(runner, 'refusal').replaceChildren()
  try {
    await stoppable(runner, async (signal) => {
      for (; at < all.length && !signal.aborted; at++) {
        const row = answerRow(at, all[at].name)
        const messages = [{ role: 'user', content: filledIn(all[at].prompt, values) }]
        const { text, note } = await answerInto(part(row, 'text'), messages, signal)
        part(row, 'note').textContent = note
        values = { ...values, [all[at].name]: text }
      }
    })
  } catch (error) {
    // What is answered stays; a second try goes on with the step that failed.
    part(runner, 'refusal').replaceChildren(refusalBox(error, () => runFrom(at, all, values)))
    part(runner, 'refusal').scrollIntoView({ block: 'nearest' })
  } finally {
    running = false
    refreshLeft()
  }
}

function answerRow(index, name) {
  const row = fromTemplate('answer')
  part(row, 'who').textContent = `${index + 1}. ${name}`
  answers.children[index]?.remove() // of a try that failed
  answers.append(row)
  return row
}
