import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// The page and the server behind it look like one origin, as behind any reverse proxy.
const proxy = {
  '/v1': {
    target: process.env.STEERAGE_URL ?? 'http://127.0.0.1:8787',
    ws: true,
    // A stream that breaks off has to break off in the browser too: Vite's proxy would leave it open for ever.
    configure: server => server.on('proxyRes', (from, _request, to) => from.on('error', () => to.destroy())),
  },
};

export default defineConfig({ plugins: [react()], server: { proxy }, preview: { proxy } });
