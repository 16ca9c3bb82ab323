// The notebook's side of a dashboard: a frame with the page in it, and what the page and the kernel tell each other.
// PAGE, the frame's document, is put before this.

/** Whether the notebook is dark, which may differ from what the system prefers; undefined where it does not say. */
function isDark() {
  const { body, documentElement: root } = document
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === 'false'
  if (body.dataset.vscodeThemeKind) return !body.dataset.vscodeThemeKind.includes('light')
  if (root.hasAttribute('theme')) return root.getAttribute('theme') === 'dark'
}

/** A copy of what a comm message carries, which the page may keep. */
function bytes(view) {
  const { buffer, byteOffset, byteLength } = view instanceof ArrayBuffer ? new DataView(view) : view
  return buffer.slice(byteOffset, byteOffset + byteLength)
}

function render({ model, el }) {
  let port = null // to the page that is in the frame now
  let name = ''

  const style = document.createElement('style') // a live page needs no copy of it beside it
  style.textContent = `[data-npd-twin="${model.get('twin')}"] { display: none }`
  document.head.append(style)

  const frame = document.createElement('iframe')
  frame.title = model.get('title')
  frame.setAttribute('sandbox', 'allow-scripts allow-downloads')
  frame.allowFullscreen = true
  Object.assign(frame.style, {
    width: '100%', height: `${model.get('height')}px`, display: 'block', boxSizing: 'border-box', resize: 'vertical',
    border: '1px solid rgba(128, 128, 128, 0.35)', borderRadius: '6px',
  })

  const toPage = (message, view) => {
    if (!port) return
    const buffer = view && view.byteLength ? bytes(view) : undefined
    port.postMessage(buffer ? { ...message, buffer } : message, buffer ? [buffer] : [])
  }
  const snapshot = () => toPage({ type: 'snapshot' }, model.get('document'))
  const said = (message, buffers) => toPage(message, buffers && buffers[0])
  const leave = () => {
    if (!port) return
    port.close()
    port = null
    model.send({ type: 'bye', name })
  }
  const connect = ({ source, data }) => {
    if (source !== frame.contentWindow || data !== 'npd-ready') return
    leave() // a notebook that moves the cell loads its frame anew
    const channel = new MessageChannel()
    name = crypto.randomUUID?.() ?? String(Math.random())
    port = channel.port1
    port.onmessage = (event) => model.send({ ...event.data, name })
    source.postMessage({ type: 'npd-port', name, dark: isDark() }, '*', [channel.port2])
    snapshot()
  }
  const resize = () => (frame.style.height = `${model.get('height')}px`)

  window.addEventListener('message', connect)
  model.on('msg:custom', said)
  model.on('change:document', snapshot)
  model.on('change:height', resize)
  frame.srcdoc = PAGE
  el.append(frame)

  return () => {
    window.removeEventListener('message', connect)
    model.off('msg:custom', said)
    model.off('change:document', snapshot)
    model.off('change:height', resize)
    leave()
    style.remove()
    frame.remove()
  }
}

export default { render }
