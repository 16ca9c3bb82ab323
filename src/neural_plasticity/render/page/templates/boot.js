(async () => {
  const text = (id) => document.getElementById(id).textContent.trim()
  const bytes = (base64) => {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64)
    const binary = atob(base64)
    const found = new Uint8Array(binary.length)
    for (let at = 0; at < binary.length; at++) found[at] = binary.charCodeAt(at)
    return found
  }
  try {
    const inflated = new Blob([bytes(text('npd-app'))]).stream().pipeThrough(new DecompressionStream('deflate-raw'))
    const script = document.createElement('script')
    script.type = 'module'
    script.textContent = await new Response(inflated).text()
    document.head.append(script)
  } catch (error) {
    document.getElementById('npd-wait').textContent =
      'This page needs a browser that can inflate data: Chrome or Edge 103, Firefox 113, Safari 16.4 or newer. (' + error + ')'
  }
})()
