<%
# What was found. Besides root, asset and query (see layout.tpl):
#   query    the words; empty for all projects     count    how many projects have them
#   hits     those on this page, each with .name and .summary
#   page, pages   this page's number and how many there are; first: the number of its first project
#   link     link(2) leads to the second page
#   fallback whether other names come from an upstream
rebase("layout", title=(query + " – search" if query else "All projects"))
%>
% if query:
<h1>Search: <bdi>{{query}}</bdi></h1>
% else:
<h1>All projects</h1>
% end
<p class="quiet">{{"{:,}".format(count)}} project{{"" if count == 1 else "s"}}{{", page {:,} of {:,}".format(page, pages) if pages > 1 else ""}}</p>
% if hits:
<ol class="hits" start="{{first}}">
%   for hit in hits:
  <li>
    <a href="project/{{hit.name}}/">{{hit.name}}</a>
%     if hit.summary:
    <p><bdi>{{hit.summary}}</bdi></p>
%     end
  </li>
%   end
</ol>
% elif query:
<p>No project here has all these words in its name or summary.{{" Other names come from the upstream, which is not searched." if fallback else ""}}</p>
% else:
<p>There is nothing here yet.</p>
% end
% if pages > 1:
<nav class="pages" aria-label="Pages">
%   if page > 1:
  <a href="{{link(page - 1)}}" rel="prev">← Previous</a>
%   end
%   for number in sorted({1, pages, *range(max(1, page - 2), min(pages, page + 2) + 1)}):
%     if number == page:
  <a href="{{link(number)}}" aria-current="page">{{number}}</a>
%     else:
  <a href="{{link(number)}}">{{number}}</a>
%     end
%   end
%   if page < pages:
  <a href="{{link(page + 1)}}" rel="next">Next →</a>
%   end
</nav>
% end
