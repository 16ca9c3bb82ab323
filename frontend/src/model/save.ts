/** Hands a file to the reader of the page; nothing leaves the machine. */
export function save(name: string, content: string | Blob, type = 'text/plain'): void {
    const blob =
        typeof content === 'string' ? new Blob([content], { type: `${type};charset=utf-8` }) : content
    const link = document.createElement('a')
    link.href = URL.createObjectURL(blob)
    link.download = name.replace(/[^\w.-]+/g, '-')
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}

/** Whether the text is on the clipboard now: an unsafe context or a refused permission may forbid it. */
export async function copy(text: string): Promise<boolean> {
    try {
        await navigator.clipboard.writeText(text)
        return true
    } catch {
        return false
    }
}
