/** Server-sent events, read by hand: the browser's own reader hides the heartbeats that tell silence from a dead line. */
export interface Message {
    id: string
    data: string
}

/** Takes the text of a stream as it comes, in whatever pieces, and gives the messages that are complete. */
export class MessageReader {
    private rest = ''
    private data: string[] = []
    private id = ''

    read(piece: string): Message[] {
        const lines = (this.rest + piece).split(/\r\n|\n|\r/)
        this.rest = lines.pop()!
        const found: Message[] = []
        for (const line of lines) {
            if (line === '') {
                if (this.data.length) found.push({ id: this.id, data: this.data.join('\n') })
                this.data = []
            } else if (line.startsWith('data:')) this.data.push(line.slice(5).replace(/^ /, ''))
            else if (line.startsWith('id:')) this.id = line.slice(3).trim()
        }
        return found
    }
}

/**
 * Reads a stream until it ends, breaks, or says nothing (not even a heartbeat) for `silence` milliseconds.
 * Returns whether anything came at all.
 */
export async function readStream(
    address: string,
    silence: number,
    signal: AbortSignal,
    take: (message: Message) => void,
    heard: () => void,
): Promise<boolean> {
    const own = new AbortController()
    const giveUp = () => own.abort()
    signal.addEventListener('abort', giveUp)
    let timer = setTimeout(giveUp, silence)
    let anything = false
    try {
        const answer = await fetch(address, {
            signal: own.signal,
            headers: { Accept: 'text/event-stream' },
            cache: 'no-store',
        })
        if (!answer.ok || !answer.body) return false
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
        const messages = new MessageReader()
        for (;;) {
            const { done, value } = await reader.read()
            if (done) return anything
            anything = true
            clearTimeout(timer)
            timer = setTimeout(giveUp, silence)
            heard()
            for (const one of messages.read(value)) take(one)
        }
    } catch {
        return anything
    } finally {
        clearTimeout(timer)
        own.abort()
        signal.removeEventListener('abort', giveUp)
    }
}
