// Keys of the user's own: stored, tested, removed. A key is in this page from the paste to the press of the button; what
// Tollhouse tells of it afterwards is its kind, its last four characters, and when it was stored and used.

import { refreshLeft } from './left.js'
import { fromTemplate, part } from './stream.js'
import { ownKeys, removeOwnKey, storeOwnKey, testOwnKey } from './tollhouse.js'
import { tell } from './words.js'

const CLOSED = {
  plan: 'Under your plan no key of your own is used, so there is none to store.',
  providers: 'No model of this application is one that takes a key.',
  vault: 'Keys cannot be stored here yet: whoever runs this application has to make a master key for them first.',
}

const byId = (id) => document.getElementById(id)
const form = byId('key-form')
const list = byId('own-keys')
const told = byId('key-told')

let asked = 0
/** How often the keys were asked for: an answer that a newer one or a farewell has overtaken is dropped. */

export function startKeys() {
  form.addEventListener('submit', save)
}

/** Nothing of what somebody pasted or was told stays when they look elsewhere. */
export function clearKeys() {
  asked++
  form.reset()
  list.replaceChildren()
  told.textContent = ''
  tell(part(form, 'refusal'), null)
}

/** Asks anew for the keys, and for whose pays now. */
export async function showKeys() {
  const mine = ++asked
  try {
    const [stored, now] = await Promise.all([ownKeys(), refreshLeft()])
    if (mine !== asked) return
    const closed = !stored.can_store ? 'vault' : !stored.providers.length ? 'providers' : now?.own_key === 'never' ? 'plan' : null
    list.replaceChildren(...stored.items.map(card))
    form.hidden = closed !== null
    byId('key-closed').hidden = closed === null
    byId('key-closed').textContent = CLOSED[closed] ?? ''
    const chosen = form.elements.provider.value
    form.elements.provider.replaceChildren(...stored.providers.map((name) => new Option(name, name, false, name === chosen)))
    tell(byId('key-refusal'), null)
  } catch (error) {
    tell(byId('key-refusal'), error)
  }
}

async function save(event) {
  event.preventDefault()
  const { provider, secret } = form.elements
  const button = form.querySelector('button')
  const sent = secret.value
  secret.value = '' // whatever comes of it: it is not shown again
  button.disabled = true
  try {
    const { hint } = await storeOwnKey(provider.value, sent)
    tell(part(form, 'refusal'), null)
    await showKeys()
    told.textContent = `The key ${ending(hint)} is stored.`
  } catch (error) {
    told.textContent = ''
    tell(part(form, 'refusal'), error)
    secret.focus()
  } finally {
    button.disabled = false
  }
}

const ending = (hint) => `…${hint}`

/** `Nov 22, 2026, 7:05 PM`, as the reader writes it. */
const dated = (time) => new Date(time).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' })

/** `anthropic_api`: anthropic API key. */
const called = (kind) => `${kind.replaceAll('_', ' ')} key`.replace(' api ', ' API ')

/** One stored key, with what can be done with it. */
function card({ provider, kind, hint, stored_at, last_used_at, refused_at }) {
  const item = fromTemplate('own-key')
  part(item, 'what').textContent = `${provider} · ${kind === 'unknown' ? 'API key' : called(kind)}`
  part(item, 'hint').textContent = ending(hint)
  const used = last_used_at ? `Last used ${dated(last_used_at)}.` : 'Not used yet.'
  const refused = refused_at ? ` Its provider refused it ${dated(refused_at)}.` : ''
  part(item, 'when').textContent = `Stored ${dated(stored_at)}. ${used}${refused}`
  const said = part(item, 'said')
  const on = (role, act) => {
    const button = part(item, role)
    button.setAttribute('aria-label', `${button.textContent} the key for ${provider}`)
    button.addEventListener('click', async () => {
      button.disabled = true
      delete said.dataset.ok
      try {
        await act()
      } catch (error) {
        tell(said, error)
      } finally {
        button.disabled = false
      }
    })
  }
  on('test', async () => {
    said.hidden = false
    said.textContent = `Asking ${provider} …`
    const { ok, status, message } = await testOwnKey(provider)
    said.dataset.ok = ok
    said.textContent = inWords(provider, ok, status, message)
  })
  on('remove', async () => {
    await removeOwnKey(provider)
    await showKeys()
    told.textContent = `The key ${ending(hint)} is removed.`
    byId('key-title').focus()
  })
  return item
}

function inWords(provider, ok, status, message) {
  if (ok) return `${provider} takes this key.`
  if (status === 0) return `${provider} could not be asked: ${message}`
  return `${provider} answered ${status}: “${message}”`
}
